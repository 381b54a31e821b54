"""The processes of the service: start, refusal, replacement of dead workers, and an orderly end."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import httpx
import psutil
import pytest
from uvicorn.config import STARTUP_FAILURE

from tests.conftest import StartServer
from tests.support.applications import application
from tests.support.cluster import Database, eventually
from tests.support.server import Server, free_port


def _run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """One command of `channel-gate`, to its end."""
    return subprocess.run(
        [sys.executable, "-c", "from app.cli import main; main()", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


async def _metrics(server: Server) -> str:
    async with httpx.AsyncClient() as client:
        return (await client.get(f"{server.base_url}/metrics")).text


async def _live_workers(server: Server) -> float:
    found = re.search(r"^gate_workers_live ([0-9.]+)$", await _metrics(server), re.MULTILINE)
    return float(found[1]) if found else 0


def test_serve_without_a_database_says_which_variable_is_missing() -> None:
    ended = _run("serve")
    assert (ended.returncode, ended.stderr) == (1, "error: GOVERNANCE_DATABASE_URL is not set\n")


class _Collector(BaseHTTPRequestHandler):
    """Keeps what is exported to it."""

    received: ClassVar[list[tuple[str, bytes]]] = []

    def do_POST(self) -> None:
        self.received.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_request(self, *_: object) -> None:
        """Say nothing."""


async def test_with_tracing_on_the_service_starts_and_sends_a_span_of_a_decision(
    seeded_database: Database, start_server: StartServer
) -> None:
    with HTTPServer(("127.0.0.1", 0), _Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        server = await start_server(
            seeded_database,
            GATE_TRACING="true",
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.server_port}",
            OTEL_EXPORTER_OTLP_COMPRESSION="none",
            OTEL_BSP_SCHEDULE_DELAY="50",
        )
        answer = await server.client().post("/v1/decisions", json=application("traced"))
        assert answer.status_code == 200, answer.text
        await eventually(lambda: bool(_Collector.received))
        collector.shutdown()
    path, spans = _Collector.received[0]
    assert path == "/v1/traces"
    assert b"POST /v1/decisions" in spans


def test_a_wrong_setting_is_told_in_one_line() -> None:
    ended = _run("serve", GATE_WORKERS="many")
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: GATE_WORKERS: ")
    assert ended.stderr.count("\n") == 1


def test_an_unreachable_database_is_told_in_one_line() -> None:
    url = f"postgresql://somebody@127.0.0.1:{free_port()}/gate"
    ended = _run("serve", DATABASE_URL=url, GOVERNANCE_DATABASE_URL=url)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1


async def test_serve_refuses_a_database_without_the_schema(blank_database: Database) -> None:
    ended = await asyncio.to_thread(_run, "serve", **blank_database.environment())
    assert ended.returncode == 1
    assert ended.stderr == "error: the database has no schema yet: run `channel-gate migrate`\n"


async def test_migrate_makes_a_blank_database_servable_and_wait_sees_it(blank_database: Database) -> None:
    environment = blank_database.environment()
    waited = await asyncio.to_thread(_run, "migrate", "--wait", "--timeout", "0", **environment)
    assert (waited.returncode, waited.stderr.count("\n")) == (1, 1)
    migrated = await asyncio.to_thread(_run, "migrate", **environment)
    assert migrated.returncode == 0, migrated.stderr
    waited = await asyncio.to_thread(_run, "migrate", "--wait", **environment)
    assert (waited.returncode, waited.stderr) == (0, "")


async def test_a_port_that_is_taken_is_told_in_one_line(gate_server: Server) -> None:
    ended = await asyncio.to_thread(
        _run, "serve", "--port", str(gate_server.port), **gate_server.database.environment()
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"error: cannot listen on 127.0.0.1 port {gate_server.port}: ")


@pytest.mark.parametrize(("workers", "number"), [(1, signal.SIGTERM), (1, signal.SIGINT), (2, signal.SIGTERM)])
async def test_a_stopped_service_ends_with_0_and_leaves_no_process(
    seeded_database: Database, start_server: StartServer, workers: int, number: signal.Signals
) -> None:
    server = await start_server(seeded_database, workers=workers)
    pids = server.worker_pids()
    assert len(pids) == workers
    assert server.process is not None
    server.process.send_signal(number)
    assert await asyncio.to_thread(server.process.wait, 20) == 0
    assert all(_is_gone(pid) for pid in pids)


async def test_a_dead_worker_is_replaced_and_its_counts_stay(
    seeded_database: Database, start_server: StartServer
) -> None:
    metrics_port = free_port()
    server = await start_server(seeded_database, workers=2, GATE_METRICS_PORT=str(metrics_port))
    await eventually(lambda: _is_two(server), timeout_seconds=30)
    client = server.client(None)
    for _ in range(20):
        assert (await client.get("/v1/rollout")).status_code == httpx.codes.UNAUTHORIZED
    counted = re.compile(r'^gate_http_requests_total{[^}]*route="/v1/rollout"[^}]*} 20\.0$', re.MULTILINE)
    assert counted.search(await _metrics(server))

    killed = server.worker_pids()[0]
    os.kill(killed, signal.SIGKILL)
    await eventually(lambda: _replaced(server, killed), timeout_seconds=30)
    await eventually(lambda: _is_two(server), timeout_seconds=30)
    assert counted.search(await _metrics(server))
    async with httpx.AsyncClient() as scraper:
        own = await scraper.get(f"http://127.0.0.1:{metrics_port}/metrics")
    assert counted.search(own.text), "the parent's listener answers for all workers"


async def _is_two(server: Server) -> bool:
    return await _live_workers(server) == 2


def _replaced(server: Server, killed: int) -> bool:
    pids = server.worker_pids()
    return len(pids) == 2 and killed not in pids


async def test_workers_end_when_their_parent_is_killed(seeded_database: Database, start_server: StartServer) -> None:
    server = await start_server(seeded_database, workers=2)
    pids = server.worker_pids()
    assert server.process is not None
    server.process.kill()
    server.process.wait()
    await eventually(lambda: all(_is_gone(pid) for pid in pids), timeout_seconds=20)


async def test_a_killed_service_starts_again_on_the_same_port(
    seeded_database: Database, start_server: StartServer
) -> None:
    server = await start_server(seeded_database, workers=2)
    server.kill_all()
    server.start()
    await server.wait_ready()


async def test_a_request_in_flight_is_answered_before_the_end(
    seeded_database: Database, start_server: StartServer
) -> None:
    server = await start_server(seeded_database)
    assert server.process is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    body = b'{"application_id": "x"}'
    head = f"POST /v1/decisions HTTP/1.1\r\nHost: gate\r\nContent-Length: {len(body)}\r\n"
    key = f"Authorization: Bearer {seeded_database.keys['origination']}\r\nContent-Type: application/json\r\n\r\n"
    writer.write((head + key).encode() + body[:5])
    await writer.drain()
    # Whatever the service answers on another connection now, it has accepted the first one before.
    assert (await server.client(None).get("/livez")).status_code == httpx.codes.OK
    server.process.send_signal(signal.SIGTERM)
    await eventually(lambda: "Shutting down" in server.log)
    writer.write(body[5:])
    status = await asyncio.wait_for(reader.readline(), 10)
    writer.close()
    assert status.startswith(b"HTTP/1.1 422")
    assert await asyncio.to_thread(server.process.wait, 20) == 0


async def test_a_service_whose_workers_cannot_start_gives_up(
    seeded_database: Database, start_server: StartServer, tmp_path: Path
) -> None:
    broken = tmp_path / "sitecustomize.py"
    broken.write_text("import sys\nsys.modules['app.main'] = None\n", encoding="utf-8")
    server = await start_server(seeded_database, workers=2, ready=False, PYTHONPATH=str(tmp_path))
    assert server.process is not None
    assert await asyncio.to_thread(server.process.wait, 40) == STARTUP_FAILURE
    assert "no_worker_started" in server.log


def test_the_version_is_printed() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", _run("--version").stdout)


def test_a_wrong_call_ends_with_2() -> None:
    assert _run("serve", "--no-such-option").returncode == 2
