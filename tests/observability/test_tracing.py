"""Tracing: spans without paths or queries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from app.observability.tracing import path_shape, trace_asgi


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/", "/"),
        ("/livez", "/livez"),
        ("/v1/decisions", "/v1/decisions"),
        ("/v1/decisions/01890", "/v1/decisions/*"),
        ("/v1/applications/A-1/revisions/2/decision", "/v1/applications/*/*/*/*"),
    ],
)
def test_a_path_is_told_by_its_shape(path: str, shape: str) -> None:
    assert path_shape(path) == shape


class _Kept(SpanExporter):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Any) -> SpanExportResult:
        self.spans.extend(spans)
        return SpanExportResult.SUCCESS


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> _Kept:
    kept = _Kept()
    monkeypatch.setattr("opentelemetry.exporter.otlp.proto.http.trace_exporter.OTLPSpanExporter", lambda: kept)
    monkeypatch.setattr("opentelemetry.sdk.trace.export.BatchSpanProcessor", SimpleSpanProcessor)
    return kept


async def _hello(scope: Any, receive: Any, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


async def test_a_span_continues_the_callers_trace_and_holds_no_path_or_query(exporter: _Kept) -> None:
    app = trace_asgi(_hello, service_version="1.2.3")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gate") as client:
        headers = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}
        await client.get("/v1/applications/Zhang-San/revisions/1/decision?name=Zhang-San", headers=headers)
        await client.get("/livez")
    (span,) = exporter.spans
    assert span.context is not None
    assert format(span.context.trace_id, "032x") == "ab" * 16
    assert span.name == "GET /v1/applications/*/*/*/*"
    assert span.resource.attributes["service.version"] == "1.2.3"
    assert "Zhang" not in span.to_json()
