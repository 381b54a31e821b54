"""How long a change takes: from publishing to the confirmation of every worker, and until a lost word is healed."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from statistics import median
from time import perf_counter
from typing import Any

import asyncpg
import httpx
from rich.console import Console

from app.policies.defaults import default_policy
from benchmarks.ground import Cores, Ground, ServerProcess, ground, pinned, server_process
from benchmarks.load import LoadPlan

WORKERS = 4
_NOTIFIES = "PERFORM pg_notify('gate_snapshot', v_revision::text);"
_BEGIN_SCORE = 540


def measure_rollout(*, publishes: int, lost: int, console: Console) -> None:
    """Publish again and again under load, then lose notifications, and print both."""
    cores = Cores.available()
    arguments = ("-c", "from app.cli import main; main()", "serve", "--workers", str(WORKERS))
    with (
        ground(cores) as place,
        # Four workers and the load share all cores: each gets as much of them as it can.
        server_process("rollout", arguments, place, cores=frozenset()) as server,
        _loaded(place, server, cores),
    ):
        seconds = asyncio.run(_publish(place, server, publishes))
        _print(console, f"Publish to the confirmation of all {WORKERS} workers, under load", seconds)
        seconds = asyncio.run(_lose(place, server, lost))
        _print(console, "A lost notification, healed in all workers", seconds)


@contextmanager
def _loaded(place: Ground, server: ServerProcess, cores: Cores) -> Iterator[None]:
    plan = LoadPlan(
        port=server.port,
        key=place.keys["origination"],
        server_pid=server.pid,
        run=1,
        connections=64,
        warm_up_seconds=1.0,
        seconds=3600.0,
        think_seconds=0.05,
    )
    with pinned(cores.others):
        load = subprocess.Popen([sys.executable, "-m", "benchmarks.load"], stdin=subprocess.PIPE)
    assert load.stdin is not None
    load.stdin.write(json.dumps(asdict(plan)).encode())
    load.stdin.close()
    try:
        yield
        if load.poll() is not None:
            raise RuntimeError("the load ended before its time")
    finally:
        load.terminate()
        load.wait()


async def _publish(place: Ground, server: ServerProcess, times: int) -> list[float]:
    """Seconds from the request to the answer that says that all workers have confirmed, for each publish."""
    headers = {"Authorization": f"Bearer {place.keys['policy-author']}"}
    seconds = []
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", headers=headers, timeout=30.0) as client:
        while len((await client.get("/v1/rollout")).json()["workers"]) < WORKERS:  # noqa: ASYNC110 - over HTTP
            await asyncio.sleep(0.1)
        for number in range(times):
            policy = _policy(_BEGIN_SCORE + number % 40)
            started = perf_counter()
            answer = await client.post("/v1/policies", params={"wait": 20}, json=policy)
            seconds.append(perf_counter() - started)
            if answer.status_code != httpx.codes.OK or answer.json()["rollout"]["live_workers"] != WORKERS:
                raise RuntimeError(f"not all workers confirmed: {answer.text}")
    return seconds


def _policy(score: int) -> dict[str, Any]:
    policy: dict[str, Any] = default_policy()
    rule = next(rule for rule in policy["rules"] if rule["code"] == "BU03")
    rule["thresholds"]["prime"] = score
    return policy


async def _lose(place: Ground, server: ServerProcess, times: int) -> list[float]:
    """Seconds from a change that nobody was told of until the registry shows it in every worker."""
    connection = await asyncpg.connect(place.superuser_url)
    definition = await connection.fetchval("SELECT pg_get_functiondef('gate.next_revision'::regproc)")
    if _NOTIFIES not in definition:
        raise RuntimeError("the notification is not where it was")
    seconds = []
    try:
        await connection.execute(definition.replace(_NOTIFIES, ""))
        for number in range(times):
            state = ("suspended", "active")[number % 2]
            started = perf_counter()
            await connection.execute(
                "SELECT gate.channel_set_state('search-ads', $1, NULL, 'bench', 'lost', NULL)", state
            )
            revision = await connection.fetchval("SELECT revision FROM gate.state")
            while True:
                behind = await connection.fetchval(
                    "SELECT count(*) FROM gate.workers WHERE lease_until > now() AND snapshot_revision < $1", revision
                )
                if behind == 0:
                    break
                await asyncio.sleep(0.01)
            seconds.append(perf_counter() - started)
    finally:
        await connection.execute(definition)
        await connection.close()
    return seconds


def _print(console: Console, title: str, seconds: list[float]) -> None:
    ordered = sorted(seconds)
    p99 = ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
    console.print(
        f"{title}: median {median(ordered):.3f} s, p99 {p99:.3f} s, most {ordered[-1]:.3f} s ({len(ordered)})"
    )
