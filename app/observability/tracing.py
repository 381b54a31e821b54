"""OpenTelemetry tracing, when the `tracing` extra is installed and GATE_TRACING is on.

Where spans go is told by the usual OTEL_ variables. A span carries the shape of the path, never the path or the query.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, TypeAlias

from app.extras import how_to_install

if TYPE_CHECKING:
    from opentelemetry.trace import Span

_Scope: TypeAlias = MutableMapping[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[_Scope, _Receive, _Send], Awaitable[None]]

_KEPT_SEGMENTS = 2
_PATH_ATTRIBUTES = ("http.url", "http.target", "url.full", "url.path")
_QUIET_PATHS = "livez,readyz,metrics"


class TracingError(Exception):
    """Tracing is asked for and cannot be had. The text says what to install."""


def trace_asgi(app: AsgiApp, *, service_version: str) -> AsgiApp:
    """The app with a span around each request, sent over OTLP/HTTP.

    Raises:
        TracingError: where the `tracing` extra is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.util.http import parse_excluded_urls
    except ImportError as error:
        raise TracingError(f"GATE_TRACING needs the extra: {how_to_install('tracing')}") from error
    resource = Resource.create({"service.name": "channel-gate", "service.version": service_version})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    traced: AsgiApp = OpenTelemetryMiddleware(
        app,
        excluded_urls=parse_excluded_urls(_QUIET_PATHS),
        default_span_details=lambda scope: (
            f"{scope.get('method', '')} {path_shape(scope.get('path', ''))}".strip(),
            {},
        ),
        server_request_hook=_hide_path,
        tracer_provider=provider,
        exclude_spans=["receive", "send"],
    )
    return traced


def path_shape(path: str) -> str:
    """The first segments of a path, and a star for each one after them: `/v1/decisions/*`."""
    segments = path.strip("/").split("/")
    return "/" + "/".join([*segments[:_KEPT_SEGMENTS], *("*" for _ in segments[_KEPT_SEGMENTS:])])


def _hide_path(span: Span, scope: _Scope) -> None:
    if not span.is_recording():
        return
    shape = path_shape(scope.get("path", ""))
    for attribute in _PATH_ATTRIBUTES:
        span.set_attribute(attribute, shape)
    span.set_attribute("url.query", "")
