"""The ASGI application for `uvicorn app.main:app`. `channel-gate serve` runs the same one with better defaults."""

from __future__ import annotations

from app.api.factory import make_app
from app.observability.logs import configure_logs
from app.settings import Settings, read_settings
from app.version import VERSION


def _build(settings: Settings) -> object:
    configure_logs(level=settings.log_level, log_format=settings.log_format)
    application = make_app(settings)
    if settings.tracing:
        from app.observability.tracing import trace_asgi

        return trace_asgi(application, service_version=VERSION)
    return application


app = _build(read_settings())
