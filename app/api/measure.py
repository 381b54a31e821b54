"""Counts and times every request that FastAPI answers, by the template of its route."""

from __future__ import annotations

from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.observability import metrics

UNMATCHED = "unmatched"


class MeasureMiddleware:
    """Outermost, so that what the other layers answer is counted too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        status = 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            route = getattr(scope.get("route"), "path", UNMATCHED)
            seconds = perf_counter() - started
            metrics.record_request(route=route, method=scope["method"], status=status, seconds=seconds)
