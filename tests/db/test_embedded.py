"""The embedded PostgreSQL: started by whoever comes first, stopped by whoever leaves last, also as root."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import asyncpg
import psutil
import pytest

from app.db.embedded import EmbeddedPostgres, EmbeddedPostgresError, remove_embedded, stop_embedded
from tests.support.cluster import eventually

_HOLDER = """
    import sys, time
    from pathlib import Path
    from app.db.embedded import EmbeddedPostgres
    with EmbeddedPostgres(Path(sys.argv[1])) as server:
        print(server.server_pid, flush=True)
        sys.stdin.read()
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="channel-gate-embedded-"))
    folder.chmod(0o755)
    yield folder / ".var" / "postgres"
    remove_embedded(folder / ".var" / "postgres")
    shutil.rmtree(folder)


def _hold_elsewhere(directory: Path) -> tuple[subprocess.Popen[str], int]:
    """Another process that holds the server until its standard input ends; and the server's process id."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_HOLDER), str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def _leave(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=30)
    assert process.returncode == 0


def _alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


async def _ask(server: EmbeddedPostgres, query: str) -> object:
    connection = await asyncpg.connect(server.url())
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_a_started_server_answers_durably_and_listens_on_no_port(directory: Path) -> None:
    with EmbeddedPostgres(directory) as server:
        settings = [
            await _ask(server, f"SELECT current_setting('{name}')")
            for name in ("fsync", "synchronous_commit", "full_page_writes", "listen_addresses", "max_connections")
        ]
        assert settings == ["on", "on", "on", "", "200"]
        assert str(await _ask(server, "SHOW server_version")).startswith("18.")


async def test_what_was_written_is_there_after_a_stop_and_a_start(directory: Path) -> None:
    with EmbeddedPostgres(directory) as server:
        await _ask(server, "CREATE TABLE kept AS SELECT 42 AS answer")
        first = server.server_pid
    assert not _alive(first)
    with EmbeddedPostgres(directory) as server:
        assert await _ask(server, "SELECT answer FROM kept") == 42


def test_starting_and_stopping_twice_is_the_same_as_once(directory: Path) -> None:
    server = EmbeddedPostgres(directory)
    server.start()
    pid = server.server_pid
    server.start()
    assert server.server_pid == pid
    server.stop()
    server.stop()
    assert not _alive(pid)
    with pytest.raises(EmbeddedPostgresError):
        server.url()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another user to run PostgreSQL")
def test_root_runs_it_as_another_user(directory: Path) -> None:
    with EmbeddedPostgres(directory) as server:
        assert psutil.Process(server.server_pid).uids().real == pwd.getpwnam("nobody").pw_uid


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has folders that the server's user cannot enter")
async def test_a_folder_that_only_root_may_enter_stays_closed(directory: Path) -> None:
    directory.parent.parent.chmod(0o700)
    with EmbeddedPostgres(directory) as server:
        assert await _ask(server, "SELECT 1") == 1
        apart = server.data_directory
        assert directory.is_symlink()
        assert apart == directory.resolve() / "data"
    assert directory.parent.parent.stat().st_mode & 0o777 == 0o700
    remove_embedded(directory)
    assert not apart.exists()


def test_the_last_one_to_leave_stops_the_server(directory: Path) -> None:
    other, pid = _hold_elsewhere(directory)
    with EmbeddedPostgres(directory) as server:
        assert server.server_pid == pid
        _leave(other)
        assert _alive(pid)
    assert not _alive(pid)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_server_whose_holder_was_killed_is_adopted(directory: Path, number: signal.Signals) -> None:
    killed, pid = _hold_elsewhere(directory)
    killed.send_signal(number)
    killed.communicate()
    assert _alive(pid)
    with EmbeddedPostgres(directory) as server:
        assert server.server_pid == pid
        assert await _ask(server, "SELECT 1") == 1
    assert not _alive(pid)


def test_an_interrupted_holder_stops_the_server(directory: Path) -> None:
    interrupted, pid = _hold_elsewhere(directory)
    interrupted.send_signal(signal.SIGINT)
    interrupted.communicate()
    assert not _alive(pid)


async def test_a_killed_server_recovers_at_the_next_start(directory: Path) -> None:
    with EmbeddedPostgres(directory) as server:
        await _ask(server, "CREATE TABLE kept AS SELECT 42 AS answer")
        pid = server.server_pid
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: not _alive(pid))
    with EmbeddedPostgres(directory) as server:
        assert server.server_pid != pid
        assert await _ask(server, "SELECT answer FROM kept") == 42


def test_a_start_that_was_killed_in_the_middle_is_done_anew(directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / "data.new").mkdir()
    (directory / "data.new" / "PG_VERSION").write_text("18\n", encoding="ascii")
    with EmbeddedPostgres(directory) as server:
        assert _alive(server.server_pid)


def test_stopping_from_outside_says_whether_anything_ran(directory: Path) -> None:
    assert not stop_embedded(directory)
    server = EmbeddedPostgres(directory)
    server.start()
    pid = server.server_pid
    assert stop_embedded(directory)
    assert not _alive(pid)
    assert not stop_embedded(directory)
    server.stop()


def test_a_path_too_long_for_a_socket_is_served_from_a_shorter_one(directory: Path) -> None:
    deep = directory.parent / ("long-" * 20) / "postgres"
    with EmbeddedPostgres(deep) as server:
        shorter = Path(unquote(urlsplit(server.url()).query.removeprefix("host=")))
        assert shorter.is_dir()
        assert _alive(server.server_pid)
    remove_embedded(deep)
    assert not shorter.exists()
