"""HTTP over one connection, bounded in time and number: whoever sends slowly or opens too much costs others nothing.

uvicorn's protocol with what it leaves to a proxy: a request that does not come along, a connection that never begins
one, and too many of them are each ended. The gate is safe to reach without a proxy that does so.
"""

from __future__ import annotations

import asyncio
import json
import resource
from functools import partial
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.observability import metrics

RECEIVE_CHECK_SECONDS = 10.0
LEAST_BYTES_BETWEEN_CHECKS = 1_000
"""A request that is on its way brings this much in that time, or it is answered with a 408 and the connection ends."""
_FILES_BESIDE_CONNECTIONS = 256
_ENDED_SLOW, _ENDED_AT_LIMIT = (metrics.CONNECTIONS_ENDED.labels(reason) for reason in ("slow", "limit"))


def _refusal(status: str, slug: str, title: str, detail: str, *headers: str) -> bytes:
    """A whole answer, problem details in it, for a connection that has no request yet or never a whole one."""
    problem = {"type": f"urn:channel-gate:problem:{slug}", "title": title, "status": int(status[:3]), "detail": detail}
    body = json.dumps(problem)
    lines = (
        f"HTTP/1.1 {status}",
        "content-type: application/problem+json",
        f"content-length: {len(body)}",
        "connection: close",
        *headers,
    )
    return "\r\n".join((*lines, "", body)).encode()


_TOO_SLOW = _refusal("408 Request Timeout", "request-timeout", "Too slow", "The request did not come along in time.")
_TOO_MANY = _refusal(
    "503 Service Unavailable", "overloaded", "Overloaded", "Too many connections are open.", "retry-after: 1"
)


class BoundedProtocol(HttpToolsProtocol):
    """One connection. Times are looked at now and then, not with each byte, so that a usual request pays nothing."""

    receive_check_seconds = RECEIVE_CHECK_SECONDS

    def __init__(self, *arguments: Any, connection_limit: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._connection_limit = connection_limit
        self._receiving = False
        self._received_bytes = 0
        self._check: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._connection_limit:
            _ENDED_AT_LIMIT.inc()
            transport.write(_TOO_MANY)
            transport.close()
            return
        # Until the first byte, as between two requests: an idle connection ends.
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        self._unset_keepalive_if_required()
        self._forget_check()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received_bytes += len(data)
        super().data_received(data)
        if self._receiving and self._check is None and self.parser is not None:
            self._check_later()

    def on_message_begin(self) -> None:
        self._receiving = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        self._receiving = False
        self._forget_check()
        super().on_message_complete()

    def _check_later(self) -> None:
        look = partial(self._look, self._received_bytes)
        self._check = self.loop.call_later(self.receive_check_seconds, look)

    def _look(self, received_then: int) -> None:
        """End a request that hardly came along since; where we do not read, the sender is not to blame."""
        came = self._received_bytes - received_then
        if came >= LEAST_BYTES_BETWEEN_CHECKS or self.flow.read_paused or self.transport.is_closing():
            self._check_later()
            return
        self._check = None
        _ENDED_SLOW.inc()
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(_TOO_SLOW)
        self.transport.close()

    def _forget_check(self) -> None:
        if self._check is not None:
            self._check.cancel()
            self._check = None


def room_for_connections(limit: int) -> int:
    """Let this process open as many files as so many connections need; how many it has room for in the end."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limit + _FILES_BESIDE_CONNECTIONS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return limit if soft == resource.RLIM_INFINITY else max(1, min(limit, soft - _FILES_BESIDE_CONNECTIONS))
