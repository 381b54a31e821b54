"""What a fault run runs on: a PostgreSQL of its own behind the proxy, and the service in several processes."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit, urlunsplit

import psutil

from app.db.bootstrap import LoginUrls
from tests.faults.proxy import Proxy
from tests.support.cluster import SEEDED_TEMPLATE, Cluster, Database
from tests.support.server import Server

SMALL_DISK_BYTES = 700 * 1024 * 1024
REPLICAS, WORKERS = 2, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """`database` reaches PostgreSQL directly, the service through `proxy`."""

    folder: Path
    cluster: Cluster
    database: Database
    proxy: Proxy
    servers: tuple[Server, ...]
    """The replicas, as a deployment has them: each a parent with its workers."""
    small_disk: bool
    """Whether PostgreSQL's files are on a file system that can be filled up."""

    async def keep_running(self) -> None:
        """Start a replica again whenever it has ended, as an orchestrator does."""
        while True:
            for server in self.servers:
                if not server.is_running():
                    server.start()
            await asyncio.sleep(0.5)

    def worker(self, number: int) -> psutil.Process | None:
        """One of the live workers, or None where none is up."""
        parents = {server.process.pid for server in self.servers if server.process is not None}
        pids = [
            pid for server in self.servers if server.is_running() for pid in server.worker_pids() if pid not in parents
        ]
        return psutil.Process(pids[number % len(pids)]) if pids else None


@asynccontextmanager
async def ground(*, small_disk: bool) -> AsyncIterator[Ground]:
    """Everything up and ready; at the end everything gone."""
    with _folder(small_disk=small_disk) as (folder, is_small):
        cluster = Cluster(folder)
        cluster.start()
        try:
            database = await cluster.create(SEEDED_TEMPLATE)
            socket_folder = parse_qs(urlsplit(database.serving).query)["host"][0]
            async with Proxy(f"{socket_folder}/.s.PGSQL.5432") as proxy:
                servers = tuple(
                    Server(
                        replace(database, urls=_through(proxy, database.urls)),
                        folder / f"service-{number}.log",
                        workers=WORKERS,
                        environment={"GATE_RATE_LIMIT_PER_SECOND": "0"},
                    )
                    for number in range(REPLICAS)
                )
                for server in servers:
                    server.start()
                try:
                    for server in servers:
                        await server.wait_ready()
                    yield Ground(
                        folder=folder,
                        cluster=cluster,
                        database=database,
                        proxy=proxy,
                        servers=servers,
                        small_disk=is_small,
                    )
                finally:
                    for server in servers:
                        await server.close()
        finally:
            cluster.stop()


@contextmanager
def _folder(*, small_disk: bool) -> Iterator[tuple[Path, bool]]:
    """A folder; where one is wanted and can be had, on a file system of its own that is soon full."""
    folder = Path(tempfile.mkdtemp(prefix="channel-gate-faults-"))
    folder.chmod(0o755)
    mounted = small_disk and os.geteuid() == 0 and _mount(folder)
    try:
        yield folder, mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)
        shutil.rmtree(folder)


def _mount(folder: Path) -> bool:
    options = f"size={SMALL_DISK_BYTES},mode=0755"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], check=False, capture_output=True
    )
    return done.returncode == 0


def _through(proxy: Proxy, urls: LoginUrls) -> LoginUrls:
    def by_tcp(url: str) -> str:
        parts = urlsplit(url)
        user = parts.netloc.rpartition("@")[0]
        return urlunsplit((parts.scheme, f"{user}@127.0.0.1:{proxy.port}", parts.path, "", ""))

    return LoginUrls(owner=by_tcp(urls.owner), serving=by_tcp(urls.serving), governance=by_tcp(urls.governance))
