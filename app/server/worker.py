"""One worker: uvicorn around `app.main:app`, in this process, until it is told to stop.

Beside others it is started by the supervisor as `python -m app.server.worker <listening socket> <lifeline>`. The
lifeline is a socket to the parent: each beat of the event loop is a byte on it, and when the parent is gone the worker
drains and ends, so that none is left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partialmethod
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from app.observability.logs import configure_logs
from app.server.protocol import BoundedProtocol, room_for_connections
from app.settings import Settings, SettingsError, read_settings

APPLICATION = "app.main:app"
BEAT_SECONDS = 1
BACKLOG = 2048
YOUNG_OBJECTS = 10_000
"""How many more objects are made than freed before the collector looks for cycles among them."""
DRAIN_MARGIN_SECONDS = 5.0
KEEP_ALIVE_SECONDS = 75
"""Longer than the idle time of the usual load balancers (60 s), so that they, not we, close an idle connection."""


def run_worker(
    settings: Settings,
    listener: socket.socket,
    lifeline: socket.socket | None = None,
    application: Callable[..., Any] | str = APPLICATION,
) -> int:
    """Serve until SIGTERM or SIGINT, then finish what is in flight; the exit code of the process.

    0 after an orderly end, 3 where the application did not start.
    """
    configure_logs(level=settings.log_level, log_format=settings.log_format)
    server = _Server(_configuration(settings, lifeline, application))

    # uvicorn raises the signal that stopped it once more when it is done; by then these are in place again, and the
    # process ends with 0. They also catch a signal that comes before uvicorn listens for it.
    def stop(_number: int, _frame: FrameType | None) -> None:
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    if lifeline is not None:
        limit = settings.drain_seconds + DRAIN_MARGIN_SECONDS
        threading.Thread(target=_end_with_parent, args=(lifeline, limit), daemon=True, name="lifeline").start()
    try:
        server.run(sockets=[listener])
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else STARTUP_FAILURE
    return 0 if server.started else STARTUP_FAILURE


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What stands now stands for good, and a request leaves no cycles: look at less, and less often.
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS)


def _configuration(
    settings: Settings, lifeline: socket.socket | None, application: Callable[..., Any] | str
) -> uvicorn.Config:
    async def beat() -> None:
        if lifeline is not None:
            with contextlib.suppress(OSError):  # the parent is busy, or gone: the lifeline's own thread sees to that
                lifeline.send(b".", socket.MSG_DONTWAIT)

    return uvicorn.Config(
        application,
        loop="uvloop",
        http=_protocol(room_for_connections(settings.connection_limit)),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=settings.drain_seconds,
        callback_notify=beat,
        timeout_notify=BEAT_SECONDS,
    )


def _protocol(connection_limit: int) -> type[asyncio.Protocol]:
    """uvicorn makes the protocol of a connection from a class."""

    class Protocol(BoundedProtocol):
        __init__ = partialmethod(BoundedProtocol.__init__, connection_limit=connection_limit)

    protocol: type[asyncio.Protocol] = Protocol
    return protocol


def _end_with_parent(lifeline: socket.socket, limit_seconds: float) -> None:
    # A parent that dies with beats unread resets the connection, one that closes it ends it: both mean the same.
    with contextlib.suppress(ConnectionError):
        while lifeline.recv(64):
            pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(limit_seconds)
    os.kill(os.getpid(), signal.SIGKILL)  # a drain that hangs has no parent that would end it


def _main(arguments: list[str]) -> int:
    listener, lifeline = (socket.socket(fileno=int(number)) for number in arguments)
    try:
        settings = read_settings()
    except SettingsError as error:
        sys.stderr.write(f"error: {error}\n")
        return STARTUP_FAILURE
    return run_worker(settings, listener, lifeline)


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
