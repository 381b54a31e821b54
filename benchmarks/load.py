"""A small load generator: keep-alive connections, one request at a time on each, raw HTTP/1.1 over uvloop.

A process of its own (`python -m benchmarks.load`), so that what it costs is not counted as the server's. It reads a
`LoadPlan` as JSON from stdin and writes a `LoadResult` as JSON to stdout.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from itertools import count
from time import perf_counter

import psutil
import uvloop

from benchmarks.ground import applications, pinned

_ID = b"B-0000000000000000"
_VARIANTS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """What to send. `think_seconds` is the mean of the exponential pause between an answer and the next request.

    `server_pid` is the process whose CPU time is read at both ends of the measured time; `run` makes application ids
    unique over runs; `channel` is the one that all come through, None that of the example. With `keep_latencies` the
    result holds each answer's, so that runs can be put together.
    """

    port: int
    key: str
    server_pid: int
    run: int
    connections: int
    warm_up_seconds: float
    seconds: float
    think_seconds: float = 0.0
    channel: str | None = None
    keep_latencies: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """What came back in the measured time. `cpu_us` is CPU time of the server process for each request."""

    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    load_busy: float
    """The share of a core that the generator itself used; near 1 it is the generator that limits."""
    latencies_ms: list[float] = field(default_factory=list)


def run_load(plan: LoadPlan, cores: frozenset[int]) -> LoadResult:
    """Run the plan in a process on these cores.

    Raises:
        RuntimeError: where an answer was not a 200.
    """
    with pinned(cores):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.load"],
            input=json.dumps(asdict(plan)),
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise RuntimeError(f"the load failed: {done.stderr[-1000:]}")
    return LoadResult(**json.loads(done.stdout))


class _Source:
    """Requests with a new application id each, and what is known of their answers."""

    def __init__(self, plan: LoadPlan) -> None:
        self._numbers = count(1)
        self._parts = [_request_parts(plan, body) for body in _bodies(plan.channel)]
        self._prefix = b"B-%06d" % plan.run
        self.think_seconds = plan.think_seconds
        self.pause = random.Random(plan.run)
        self.latencies: list[float] = []
        self.failure: str | None = None
        self.stopped = False

    def next(self) -> bytes:
        number = next(self._numbers)
        before, between, after = self._parts[number % _VARIANTS]
        new = b"%b%010d" % (self._prefix, number)
        return b"%b%b%b%b%b" % (before, new, between, new, after)


def _bodies(channel: str | None) -> list[bytes]:
    """Requests of a new person each: one who came again would be asked for, and be escalated for having applied."""
    bodies = []
    for application in applications(_VARIANTS):
        application["application_id"] = application["applicant"]["applicant_ref"] = _ID.decode()
        application["channel_code"] = channel or application["channel_code"]
        bodies.append(json.dumps(application, separators=(",", ":")).encode())
    return bodies


def _request_parts(plan: LoadPlan, body: bytes) -> list[bytes]:
    head = (
        f"POST /v1/decisions HTTP/1.1\r\nHost: 127.0.0.1:{plan.port}\r\nAuthorization: Bearer {plan.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    return (head + body).split(_ID)


class _Caller(asyncio.Protocol):
    """One connection, with at most one request on its way."""

    def __init__(self, source: _Source, loop: asyncio.AbstractEventLoop) -> None:
        self._source = source
        self._loop = loop
        self._received = b""
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._later() if self._source.think_seconds else self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head_end = self._received.find(b"\r\n\r\n")
        if head_end < 0:
            return
        length_at = self._received.find(b"content-length: ", 0, head_end) + 16
        length = int(self._received[length_at : self._received.index(b"\r", length_at)])
        if len(self._received) < head_end + 4 + length:
            return
        self._source.latencies.append(perf_counter() - self._sent_at)
        if self._received[9:12] != b"200":
            self._source.failure = self._received.decode(errors="replace")
        self._received = b""
        if self._source.stopped or self._source.failure:
            return
        if self._source.think_seconds:
            self._later()
        else:
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._source.stopped:
            self._source.failure = self._source.failure or f"the server closed a connection: {error}"

    def _later(self) -> None:
        self._loop.call_later(self._source.pause.expovariate(1 / self._source.think_seconds), self._send)

    def _send(self) -> None:
        if not self._source.stopped:
            self._sent_at = perf_counter()
            self._transport.write(self._source.next())


async def _run(plan: LoadPlan) -> LoadResult:
    loop = asyncio.get_running_loop()
    source = _Source(plan)
    server = psutil.Process(plan.server_pid)
    callers = [
        await loop.create_connection(lambda: _Caller(source, loop), "127.0.0.1", plan.port)
        for _ in range(plan.connections)
    ]
    await asyncio.sleep(plan.warm_up_seconds)
    source.latencies.clear()
    started, server_before, own_before = perf_counter(), _cpu_seconds(server), _cpu_seconds(psutil.Process())
    await asyncio.sleep(plan.seconds)
    seconds = perf_counter() - started
    server_seconds = _cpu_seconds(server) - server_before
    own_seconds = _cpu_seconds(psutil.Process()) - own_before
    latencies = sorted(source.latencies)
    source.stopped = True
    for transport, _ in callers:
        transport.close()
    if source.failure or not latencies:
        raise SystemExit(source.failure or "no answer came")
    return LoadResult(
        requests=len(latencies),
        per_second=len(latencies) / seconds,
        p50_ms=latencies[len(latencies) // 2] * 1e3,
        p99_ms=latencies[len(latencies) * 99 // 100] * 1e3,
        cpu_us=server_seconds / len(latencies) * 1e6,
        load_busy=own_seconds / seconds,
        latencies_ms=[round(each * 1e3, 4) for each in latencies] if plan.keep_latencies else [],
    )


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def main() -> None:
    """Read a plan, run it, write the result."""
    plan = LoadPlan(**json.load(sys.stdin))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(_run(plan))
    json.dump(asdict(result), sys.stdout)


if __name__ == "__main__":
    main()
