"""What every answer carries, and how much a request may bring. Bare ASGI: no task group, no copy of the body.

`http_middleware` puts the layers in order for FastAPI; the decision route uses `SECURITY_HEADERS` and `read_body`.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Mapping
from types import MappingProxyType

from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.error_map import FaultMiddleware
from app.api.problems import Problem, ProblemType, send_problem
from app.api.request_context import RequestContextMiddleware, request_context

SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)
"""The headers of every answer (OWASP REST security cheat sheet). TLS, and with it HSTS, ends at the ingress."""

_INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_CLOSE = (b"connection", b"close")


def page_policy(html: str) -> str:
    """The Content-Security-Policy of a page of ours, such as Swagger UI at /docs, whose assets we serve ourselves.

    Scripts run from this origin or where their hash is that of an inline script of `html`. Swagger UI sets styles
    inline and draws its icons from data URLs.
    """
    hashes = " ".join(
        f"'sha256-{b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in _INLINE_SCRIPT.findall(html)
    )
    return (
        f"default-src 'none'; script-src 'self' {hashes}".rstrip() + "; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )


class SecurityHeadersMiddleware:
    """Adds the security headers that an answer does not set itself: a page may have a policy of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                present = {name.lower() for name, _ in headers}
                headers += [pair for pair in SECURITY_HEADERS if pair[0] not in present]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, send_with_headers)


def declared_length(scope: Scope) -> int | None:
    """The Content-Length of a request, or None where it has none that is a number."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else None
    return None


def check_media_type(scope: Scope, accepted: str) -> None:
    """Refuse a body that is said to be something else, or is coded. What is not said is taken for `accepted`.

    Raises:
        Problem: unsupported-media-type.
    """
    for name, value in scope["headers"]:
        if name == b"content-type" and value != accepted.encode():
            media_type = value.partition(b";")[0].strip().lower().decode("latin-1")
            if media_type != accepted:
                raise Problem(ProblemType.UNSUPPORTED_MEDIA_TYPE, f"Send {accepted}.", headers={"Accept": accepted})
        elif name == b"content-encoding" and value.strip().lower() != b"identity":
            raise Problem(ProblemType.UNSUPPORTED_MEDIA_TYPE, "Send the body without a content encoding.")


def body_too_large(limit_bytes: int) -> Problem:
    """The problem; the connection ends with it, since what remains of the body is not read."""
    detail = f"The body may have at most {limit_bytes} bytes."
    return Problem(ProblemType.BODY_TOO_LARGE, detail, headers={"Connection": "close"})


async def read_body(scope: Scope, receive: Receive, limit_bytes: int) -> bytes:
    """The whole body, for a bare ASGI route.

    Raises:
        Problem: body-too-large, before the body is read where its length is declared.
        ClientDisconnect: where the caller went away.
    """
    length = declared_length(scope)
    if length is not None and length > limit_bytes:
        raise body_too_large(limit_bytes)
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit_bytes:
            raise body_too_large(limit_bytes)
        chunks.append(chunk)
        more = message.get("more_body", False)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


class _BodyLimitPassed(Exception):  # noqa: N818 - never leaves this module
    """Ends the application that is reading the body."""


class BodyLimitMiddleware:
    """Answers 413 to a body over the limit, declared or found while it streams in.

    `limits` gives paths a limit of their own; None leaves it to the route.
    """

    def __init__(
        self, app: ASGIApp, *, limit_bytes: int, limits: Mapping[str, int | None] = MappingProxyType({})
    ) -> None:
        self._app = app
        self._limit_bytes = limit_bytes
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        limit = self._limits.get(scope["path"], self._limit_bytes) if scope["type"] == "http" else None
        if limit is None:
            await self._app(scope, receive, send)
            return
        length = declared_length(scope)
        if length is not None and length > limit:
            await send_problem(send, body_too_large(limit), request_context(scope).request_id)
            return
        size, passed, started = 0, False, False

        async def counted_receive() -> Message:
            nonlocal size, passed
            message = await receive()
            if message["type"] == "http.request":
                size += len(message.get("body", b""))
                if size > limit:
                    passed = True
                    raise _BodyLimitPassed
            return message

        async def guarded_send(message: Message) -> None:
            # What the application answers to the interruption is not the answer; ours follows.
            nonlocal started
            if passed and not started:
                return
            started = True
            await send(message)

        try:
            await self._app(scope, counted_receive, guarded_send)
        except Exception:
            if not passed:
                raise
        if passed and not started:
            await send_problem(send, body_too_large(limit), request_context(scope).request_id)


def http_middleware(
    *, body_limit_bytes: int, body_limits: Mapping[str, int | None] = MappingProxyType({})
) -> list[Middleware]:
    """The layers of the API, outermost first, for `FastAPI(middleware=...)`."""
    return [
        Middleware(RequestContextMiddleware),
        Middleware(SecurityHeadersMiddleware),
        Middleware(FaultMiddleware),
        Middleware(BodyLimitMiddleware, limit_bytes=body_limit_bytes, limits=body_limits),
    ]
