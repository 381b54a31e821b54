"""Real `channel-gate serve` processes on a free port of the loopback."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from tests.support.cluster import SEEDED_TEMPLATE, Cluster, Database

_READY_WITHIN_SECONDS = 60.0
SERVE = ("-c", "from app.cli import main; main()", "serve")


class Server:
    """One running service. `log` is what it wrote; `client(role)` calls it with the key of that role."""

    def __init__(
        self,
        database: Database,
        log_file: Path,
        *,
        workers: int,
        environment: Mapping[str, str],
        arguments: Sequence[str] = SERVE,
    ) -> None:
        self.database = database
        self.port = free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self._log_file = log_file
        self._arguments = arguments
        self._clients: list[httpx.AsyncClient] = []
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("GATE_", "PROMETHEUS_"))},
            **database.environment(),
            "PORT": str(self.port),
            "GATE_WORKERS": str(workers),
            "GATE_DRAIN_SECONDS": "5",
            **environment,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the processes; `wait_ready` waits for them. A stopped or killed server may be started again."""
        with self._log_file.open("ab") as log:
            # A session of its own, so that `kill_all` can end every process of it at once.
            self.process = subprocess.Popen(
                [sys.executable, *self._arguments],
                env=self._environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    async def wait_ready(self) -> None:
        """Return once /readyz says so."""
        async with httpx.AsyncClient(base_url=self.base_url) as client:
            deadline = asyncio.get_running_loop().time() + _READY_WITHIN_SECONDS
            while True:
                assert self.process is not None
                assert self.process.poll() is None, f"the server ended with {self.process.returncode}:\n{self.log}"
                try:
                    if (await client.get("/readyz")).status_code == httpx.codes.OK:
                        return
                except httpx.TransportError:
                    pass
                assert asyncio.get_running_loop().time() < deadline, f"the server is not ready:\n{self.log}"
                await asyncio.sleep(0.05)

    def client(self, role: str | None = "origination", *, timeout_seconds: float = 30.0) -> httpx.AsyncClient:
        """A client with the key of a role, or without one; closed with the server."""
        headers = {} if role is None else {"Authorization": f"Bearer {self.database.keys[role]}"}
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        client = httpx.AsyncClient(base_url=self.base_url, headers=headers, timeout=timeout_seconds, limits=limits)
        self._clients.append(client)
        return client

    def is_running(self) -> bool:
        """Whether the process that was started last is still there."""
        return self.process is not None and self.process.poll() is None

    def worker_pids(self) -> list[int]:
        """The process ids of the workers; of the one process where there is no parent."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="ascii")
        return [int(pid) for pid in children.split()] or [self.process.pid]

    def terminate(self, timeout_seconds: float = 30.0) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_seconds)

    def kill_all(self) -> None:
        """SIGKILL to the parent and every worker at once, as a machine that dies would."""
        assert self.process is not None
        pids = {self.process.pid, *self.worker_pids()} if self.process.poll() is None else set()
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()

    async def close(self) -> None:
        """Close the clients and end the processes."""
        for client in self._clients:
            await client.aclose()
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                await asyncio.to_thread(self.process.wait, 20)
            except subprocess.TimeoutExpired:
                self.kill_all()

    @property
    def log(self) -> str:
        """Everything that the processes wrote so far."""
        return self._log_file.read_text(encoding="utf-8", errors="replace")


@asynccontextmanager
async def seeded_server(cluster: Cluster, folder: Path, *, workers: int) -> AsyncIterator[Server]:
    """A running service on a seeded database of its own, without a rate limit; its log is in `folder`."""
    database = await cluster.create(SEEDED_TEMPLATE)
    server = Server(database, folder / "server.log", workers=workers, environment={"GATE_RATE_LIMIT_PER_SECOND": "0"})
    server.start()
    await server.wait_ready()
    yield server
    await server.close()
    await cluster.drop(database)


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
