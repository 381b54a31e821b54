"""The id of a request and its place in a distributed trace (W3C Trace Context), from the headers that it came with."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import structlog
import uuid_utils
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID_HEADER = b"x-request-id"
TRACEPARENT_HEADER = b"traceparent"

_SAFE_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}").fullmatch
_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL).fullmatch
_NO_TRACE, _NO_SPAN = b"0" * 32, b"0" * 16
_STATE_KEY = "request_context"


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceContext:
    """The caller's span. Ids are lower-case hex: 32 digits for the trace, 16 for the span."""

    trace_id: str
    span_id: str
    sampled: bool


class RequestContext(NamedTuple):
    """What names one request in logs, audit and problems."""

    request_id: str
    trace: TraceContext | None = None


def parse_traceparent(value: bytes) -> TraceContext | None:
    """The trace context of a `traceparent` header, or None where the header must be ignored.

    Source: W3C Trace Context level 1, section 3.2. Version 00 has four parts; a later one may append more; ff is none.
    """
    match = _TRACEPARENT(value)
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == b"ff" or (version == b"00" and more is not None) or trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return TraceContext(trace_id=trace_id.decode(), span_id=span_id.decode(), sampled=bool(int(flags, 16) & 1))


def new_request_id() -> str:
    """A UUIDv7: unique, and sorted by time."""
    return str(uuid_utils.uuid7())


def read_request_context(headers: Iterable[tuple[bytes, bytes]]) -> RequestContext:
    """The context of a request with these ASGI headers. A request id that is absent or unsafe is replaced."""
    request_id, trace = None, None
    for name, value in headers:
        if name == REQUEST_ID_HEADER and _SAFE_REQUEST_ID(value):
            request_id = value.decode()
        elif name == TRACEPARENT_HEADER:
            trace = parse_traceparent(value)
    return RequestContext(request_id=request_id or new_request_id(), trace=trace)


def request_context(scope: Scope) -> RequestContext:
    """The context that the middleware gave this request; where none did, one is read now and kept."""
    state = scope.setdefault("state", {})
    context = state.get(_STATE_KEY)
    if not isinstance(context, RequestContext):
        context = state[_STATE_KEY] = read_request_context(scope["headers"])
    return context


class RequestContextMiddleware:
    """Gives every request its context, answers with its id and binds both to the log lines of the request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = request_context(scope)
        header = (REQUEST_ID_HEADER, context.request_id.encode())

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [pair for pair in message.get("headers", ()) if pair[0].lower() != REQUEST_ID_HEADER]
                message = {**message, "headers": [*headers, header]}
            await send(message)

        bound = {"request_id": context.request_id}
        if context.trace is not None:
            bound |= {"trace_id": context.trace.trace_id, "span_id": context.trace.span_id}
        with structlog.contextvars.bound_contextvars(**bound):
            await self._app(scope, receive, send_with_id)
