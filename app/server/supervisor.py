"""The parent of several workers: binds the port once, keeps the workers alive, and reads their metrics together.

A worker that dies is replaced, at once the first time and after a growing delay when it dies young again; one whose
event loop stands still is killed. When none has ever come up, the service says so and ends rather than try for ever.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType

import structlog
from uvicorn.config import STARTUP_FAILURE

from app.observability.exposition import retire_worker
from app.server.worker import DRAIN_MARGIN_SECONDS

_POLL_SECONDS = 0.1
_HUNG_AFTER_SECONDS = 30.0
_START_WITHIN_SECONDS = 60.0
_YOUNG_SECONDS = 10.0
_FIRST_DELAY_SECONDS = 0.5
_LONGEST_DELAY_SECONDS = 30.0

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Worker:
    """One place for a worker: the process that has it now, and how the ones before it fared."""

    process: subprocess.Popen[bytes] | None = None
    lifeline: socket.socket | None = None
    started_at: float = 0.0
    last_beat_at: float = 0.0
    ready: bool = False
    young_deaths: int = 0
    start_at: float = field(default=0.0)


class Supervisor:
    """Runs `workers` processes on one listening socket until SIGTERM or SIGINT; a second one cuts the drain short."""

    def __init__(
        self,
        *,
        listener: socket.socket,
        workers: int,
        drain_seconds: float,
        on_death: Callable[[int], None] = retire_worker,
    ) -> None:
        self._listener = listener
        self._workers = [_Worker() for _ in range(workers)]
        self._drain_seconds = drain_seconds
        self._on_death = on_death
        self._signals = 0
        self._ever_ready = False

    def run(self) -> int:
        """The exit code: 0 after an orderly end, 1 where a worker had to be killed at the end, 3 where none came up."""
        previous = {number: signal.signal(number, self._signalled) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            while not self._signals:
                self._look_after_workers()
                if not self._ever_ready and any(worker.young_deaths for worker in self._workers):
                    _log.error("no_worker_started")
                    self._end_workers()
                    return STARTUP_FAILURE
                time.sleep(_POLL_SECONDS)
            return self._end_workers()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        self._signals += 1

    def _look_after_workers(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            if worker.process is None:
                if now >= worker.start_at:
                    self._start(worker, now)
                continue
            exit_code = worker.process.poll()
            if exit_code is not None:
                self._bury(worker, worker.process.pid, exit_code, now)
                continue
            self._hear(worker, now)
            limit = _HUNG_AFTER_SECONDS if worker.ready else _START_WITHIN_SECONDS
            if now - worker.last_beat_at > limit:
                _log.error("worker_hung", process_id=worker.process.pid, seconds=limit)
                worker.process.kill()

    def _start(self, worker: _Worker, now: float) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        handed = (self._listener.fileno(), theirs.fileno())
        # A group of its own: Ctrl-C in a terminal reaches the parent alone, which then ends the workers in order.
        worker.process = subprocess.Popen(  # noqa: S603 (our own module, no shell)
            [sys.executable, "-m", "app.server.worker", *map(str, handed)], pass_fds=handed, process_group=0
        )
        theirs.close()
        worker.lifeline, worker.ready = ours, False
        worker.started_at = worker.last_beat_at = now
        _log.info("worker_started", process_id=worker.process.pid)

    def _hear(self, worker: _Worker, now: float) -> None:
        assert worker.lifeline is not None
        with contextlib.suppress(BlockingIOError, ConnectionError):
            if worker.lifeline.recv(1024):
                worker.last_beat_at = now
                worker.ready = self._ever_ready = True

    def _bury(self, worker: _Worker, pid: int, exit_code: int, now: float) -> None:
        lived = now - worker.started_at
        worker.young_deaths = worker.young_deaths + 1 if lived < _YOUNG_SECONDS or not worker.ready else 0
        delay = 0.0
        if worker.young_deaths:
            delay = min(_FIRST_DELAY_SECONDS * 2 ** (worker.young_deaths - 1), _LONGEST_DELAY_SECONDS)
        worker.start_at = now + delay
        self._forget(worker)
        self._on_death(pid)
        _log.error("worker_died", process_id=pid, exit_code=exit_code, seconds=round(lived, 1), delay_seconds=delay)

    def _forget(self, worker: _Worker) -> None:
        if worker.lifeline is not None:
            worker.lifeline.close()
        worker.process = worker.lifeline = None

    def _end_workers(self) -> int:
        """Ask every worker to drain, and kill what is left after the time or at the next signal."""
        running = [worker.process for worker in self._workers if worker.process is not None]
        for process in running:
            process.terminate()
        heard = self._signals
        deadline = time.monotonic() + self._drain_seconds + DRAIN_MARGIN_SECONDS
        while any(process.poll() is None for process in running):
            if time.monotonic() > deadline or self._signals > heard:
                break
            time.sleep(_POLL_SECONDS)
        killed = [process for process in running if process.poll() is None]
        for process in killed:
            _log.error("worker_killed", process_id=process.pid)
            process.kill()
            process.wait()
        for worker in self._workers:
            self._forget(worker)
        return 1 if killed else 0
