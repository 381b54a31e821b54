"""One PostgreSQL for a whole test run, shared by its processes, with databases that are copied from a template.

Whoever comes first starts it and makes the template, the last one stops it: see `app.db.embedded`. The server is not
synced to disk, which no test can see: killing a process loses nothing, only pulling the plug would.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import asyncpg
import psutil

from app.cli import demo_data
from app.db.bootstrap import LoginUrls, Roles, bootstrap, hand_over, quoted_name, url_for
from app.db.embedded import EmbeddedPostgres
from app.db.schema import migrate

Result = TypeVar("Result")

EMPTY_TEMPLATE = "template_migrated"
SEEDED_TEMPLATE = "template_seeded"
ROLES = Roles()
_PARAMETERS = {"fsync": "off", "full_page_writes": "off", "track_commit_timestamp": "on"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A clean database of one test, as each login reaches it. `superuser` is for arranging, never for attacking."""

    name: str
    urls: LoginUrls
    superuser: str
    keys: dict[str, str]
    """Key texts by role, where the database was copied from the seeded template."""

    @property
    def serving(self) -> str:
        return self.urls.serving

    @property
    def governance(self) -> str:
        return self.urls.governance

    @property
    def owner(self) -> str:
        return self.urls.owner

    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to use this database."""
        return self.urls.environment()


class Cluster:
    """The PostgreSQL of the test run."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._server = EmbeddedPostgres(directory / "postgres", parameters=_PARAMETERS)

    def start(self) -> None:
        """Start or join the server, and make the templates where they are absent."""
        self._server.start()
        with _locked(self._directory / "templates.lock"):
            if not (self._directory / "templates.json").exists():
                keys = in_thread(self._make_templates)
                (self._directory / "templates.json").write_text(json.dumps(keys), encoding="utf-8")

    def stop(self) -> None:
        """Leave the server; the last one to leave stops it."""
        self._server.stop()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop every process of the server where it stands, as a machine that hangs would; they go on at the end."""
        server = psutil.Process(self._server.server_pid)
        server.suspend()  # first, so that it starts no more of them
        processes = [server, *server.children(recursive=True)]
        try:
            for process in processes[1:]:
                process.suspend()
            yield
        finally:
            for process in reversed(processes):
                with suppress(psutil.NoSuchProcess):
                    process.resume()

    def kill(self) -> None:
        """SIGKILL to every process of the server; `revive` starts it again."""
        server = psutil.Process(self._server.server_pid)
        processes = [server, *server.children(recursive=True)]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=10)

    def revive(self) -> None:
        """Start the server where it is down: it recovers from its write-ahead log."""
        self._server.stop()
        self._server.start()

    @property
    def log(self) -> str:
        """Everything that PostgreSQL wrote down so far, for all databases."""
        return (self._directory / "postgres" / "server.log").read_text(encoding="utf-8", errors="replace")

    async def create(self, template: str = EMPTY_TEMPLATE) -> Database:
        """A new database with what the template has in it."""
        name = f"test_{uuid4().hex[:12]}"
        await self._execute(
            f"CREATE DATABASE {quoted_name(name)} TEMPLATE {quoted_name(template)} OWNER {quoted_name(ROLES.owner)} "
            "STRATEGY FILE_COPY"  # no write-ahead log of every page: a third of the time
        )
        superuser = self._server.url(database=name)
        await hand_over(superuser, database=name, roles=ROLES)
        owner, serving, governance = (url_for(superuser, database=name, user=role) for role in ROLES.names())
        keys = json.loads((self._directory / "templates.json").read_text(encoding="utf-8"))
        return Database(
            name=name,
            urls=LoginUrls(owner=owner, serving=serving, governance=governance),
            superuser=superuser,
            keys=keys if template == SEEDED_TEMPLATE else {},
        )

    async def create_blank(self) -> Database:
        """A new database with nothing in it, not even the schema."""
        name = f"test_{uuid4().hex[:12]}"
        urls = await bootstrap(self._server.url(), database=name, roles=ROLES)
        return Database(name=name, urls=urls, superuser=self._server.url(database=name), keys={})

    async def drop(self, database: Database) -> None:
        """Remove a database, whoever is still connected to it."""
        await self._execute(f"DROP DATABASE IF EXISTS {quoted_name(database.name)} WITH (FORCE)")

    def _make_templates(self) -> dict[str, str]:
        urls = asyncio.run(bootstrap(self._server.url(), database=EMPTY_TEMPLATE, roles=ROLES))
        migrate(urls.owner)

        async def make_seeded() -> dict[str, str]:
            seeded = await self.create_named(SEEDED_TEMPLATE, EMPTY_TEMPLATE)
            await demo_data.seed(seeded, now=datetime.now(UTC))
            return await demo_data.demo_keys(seeded, self._directory / "keys.json")

        return asyncio.run(make_seeded())

    async def create_named(self, name: str, template: str) -> str:
        """Copy a template under a fixed name; the URL of its governance login."""
        await self._execute(
            f"CREATE DATABASE {quoted_name(name)} TEMPLATE {quoted_name(template)} OWNER {quoted_name(ROLES.owner)}"
        )
        return url_for(self._server.url(), database=name, user=ROLES.governance)

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self._server.url())
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


def in_thread(work: Callable[[], Result]) -> Result:
    """Run what starts an event loop of its own, whether or not one runs here."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


async def eventually(check: Callable[[], Awaitable[Any] | Any], *, timeout_seconds: float = 10.0) -> Any:
    """The first true value of `check`, which is asked again and again.

    Raises:
        AssertionError: where it stays false for the whole time.
    """
    deadline = asyncio.get_running_loop().time() + timeout_seconds
    while True:
        value = check()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        assert asyncio.get_running_loop().time() < deadline, f"not true within {timeout_seconds:g} s"
        await asyncio.sleep(0.02)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
