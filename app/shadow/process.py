"""The worker's end of the challenger's process: starts it, talks to it within a time limit, ends it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from typing import Any

import orjson

from app.shadow.evaluator import LENGTH_BYTES

START_SECONDS = 30.0
_LONGEST_ANSWER_BYTES = 8 * 1024 * 1024
_INHERITED = ("PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")


class ShadowProcessError(Exception):
    """The process did not answer in time, or is gone."""


class ShadowProcess:
    """One process. After any error it is good for nothing but `end`."""

    def __init__(
        self, process: subprocess.Popen[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer

    @classmethod
    async def start(cls, target: str) -> ShadowProcess:
        """Start the process, which runs `target` (module:function). It inherits one socket and no credentials.

        Raises:
            OSError: where the system has no room for one more process.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.to_thread(_spawn, theirs.fileno(), target)
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=_LONGEST_ANSWER_BYTES)
        return cls(process, reader, writer)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def ask(self, kind: bytes, body: bytes, timeout_seconds: float) -> list[Any]:
        """Send one frame and return the answer.

        Raises:
            ShadowProcessError: where none comes in time.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                self._writer.write(len(body).to_bytes(LENGTH_BYTES, "big") + kind + body)
                await self._writer.drain()
                length = int.from_bytes(await self._reader.readexactly(LENGTH_BYTES), "big")
                answer = orjson.loads(await self._reader.readexactly(min(length, _LONGEST_ANSWER_BYTES)))
        except (TimeoutError, OSError, asyncio.IncompleteReadError, orjson.JSONDecodeError) as error:
            raise ShadowProcessError(type(error).__name__) from None
        if not isinstance(answer, list):
            raise ShadowProcessError("an answer that is no list")
        return answer

    async def end(self) -> None:
        """Kill it and wait until it is gone."""
        self._writer.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await asyncio.to_thread(self._process.wait)


def _spawn(fd: int, target: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 (our own module, no shell)
        [sys.executable, "-m", "app.shadow", str(fd), target],
        pass_fds=(fd,),
        process_group=0,  # Ctrl-C in a terminal ends the worker, and the worker ends it
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={name: os.environ[name] for name in _INHERITED if name in os.environ},
    )
