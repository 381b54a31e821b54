"""What the benchmarks stand on: a PostgreSQL that syncs every commit, demo data, processes on their own cores."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from app.api.examples import APPLICATION
from app.cli import demo_data
from app.db.bootstrap import DATABASE_NAME, LoginUrls, bootstrap
from app.db.embedded import EmbeddedPostgres
from app.db.schema import migrate

_START_WITHIN_SECONDS = 60.0
_POSTGRES = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
_SEED = 20_261_124


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """Where processes run: the server under test alone on one core, everything else on the others.

    On one core, or where the system cannot pin, all share what there is.
    """

    server: frozenset[int]
    others: frozenset[int]

    @classmethod
    def available(cls) -> Cores:
        """The first core for the server, the rest for the load and the database."""
        if not hasattr(os, "sched_getaffinity"):
            return cls(server=frozenset(), others=frozenset())
        cores = sorted(os.sched_getaffinity(0))
        return cls(server=frozenset(cores[:1]), others=frozenset(cores[1:] or cores))


@contextmanager
def pinned(cores: frozenset[int]) -> Iterator[None]:
    """What is started inside runs on these cores; none given: anywhere."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """A seeded database in a temporary folder. `keys` are the texts of API keys by role."""

    directory: Path
    urls: LoginUrls
    superuser_url: str
    keys: Mapping[str, str]


@contextmanager
def ground(cores: Cores) -> Iterator[Ground]:
    """PostgreSQL, migrated, with the demo's policy, channels and keys; gone at the end."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="channel-gate-bench-")))
        directory.chmod(0o755)  # PostgreSQL may run as another user than this one
        with pinned(cores.others):
            server = stack.enter_context(EmbeddedPostgres(directory / "postgres", parameters=_POSTGRES))
        urls = asyncio.run(bootstrap(server.url()))
        migrate(urls.owner)
        asyncio.run(demo_data.seed(urls.governance, now=datetime.now(UTC)))
        keys = asyncio.run(demo_data.demo_keys(urls.governance, directory / "keys.json"))
        superuser = server.url(database=DATABASE_NAME)
        yield Ground(directory=directory, urls=urls, superuser_url=superuser, keys=keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerProcess:
    """A running server: one worker in the process `pid`, or a parent of several."""

    name: str
    port: int
    pid: int


@contextmanager
def server_process(
    name: str,
    arguments: tuple[str, ...],
    place: Ground,
    *,
    cores: frozenset[int],
    environment: Mapping[str, str] | None = None,
    ready: str = "/readyz",
) -> Iterator[ServerProcess]:
    """Run `python <arguments>` as a server on a free port of the loopback; yields once it is ready.

    Raises:
        RuntimeError: where it does not come up; says what it wrote.
    """
    port = _free_port()
    log_file = place.directory / f"{name}.log"
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("GATE_", "PROMETHEUS_"))},
        **place.urls.environment(),
        "PORT": str(port),
        "GATE_RATE_LIMIT_PER_SECOND": "1000000",  # counted like any other, and never reached
        "GATE_LOG_LEVEL": "warning",
        **(environment or {}),
    }
    with log_file.open("wb") as log, pinned(cores):
        process = subprocess.Popen(
            [sys.executable, *arguments], env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        _wait_ready(f"http://127.0.0.1:{port}{ready}", process, log_file)
        yield ServerProcess(name=name, port=port, pid=process.pid)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def applications(count: int) -> list[dict[str, Any]]:
    """Applications of today that differ in what is asked for and who asks; the same ones in every run.

    Under the default policy about nine in ten are accepted, and most of the others escalated.
    """
    draw = random.Random(_SEED)
    now = datetime.now(UTC)
    made = []
    for number in range(count):
        application: dict[str, Any] = deepcopy(APPLICATION)
        for name, minutes in {"submitted_at": 0, "completed_at": 1, "consent_at": 5}.items():
            application[name] = _text(now - timedelta(minutes=minutes))
        application["amount"] = draw.randrange(1_000_000, 8_000_000, 10_000)
        application["term_months"] = draw.choice((6, 12, 18, 24, 36))
        application["all_in_apr_pct"] = draw.randrange(900, 2_400) / 100
        application["applicant"] |= {
            "applicant_ref": f"p-{draw.randbytes(8).hex()}",
            "birth_date": f"{draw.randrange(1965, 2004)}-{draw.randrange(1, 13):02}-17",
            "employment_months": draw.randrange(6, 200),
            "monthly_income": draw.randrange(900_000, 4_000_000, 1_000),
            "monthly_obligations": draw.randrange(0, 400_000, 1_000),
        }
        application["bureau"] |= {
            "pulled_at": _text(now - timedelta(hours=draw.randrange(1, 200))),
            "score": draw.randrange(560, 820) if number % 10 == 0 else draw.randrange(620, 820),
            "inquiries_3m": draw.randrange(0, 5),
        }
        made.append(application)
    return made


def _text(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_ready(url: str, process: subprocess.Popen[bytes], log_file: Path) -> None:
    deadline = time.monotonic() + _START_WITHIN_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.05)
    raise RuntimeError(f"the server did not come up:\n{log_file.read_text(encoding='utf-8', errors='replace')[-2000:]}")
