"""Puts the service together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.auth import security_schemes
from app.api.decision_route import DecisionRoute
from app.api.docs_page import mount_docs
from app.api.error_map import install_error_handlers
from app.api.measure import MeasureMiddleware
from app.api.openapi_examples import restore_examples
from app.api.policy_documents import DOCUMENT_LIMIT_BYTES
from app.api.problems import problem_schemas
from app.api.routes import (
    audit,
    budgets,
    challenger,
    channels,
    contests,
    decide,
    decisions,
    drafts,
    events,
    feeds,
    governance,
    health,
    held,
    outcomes,
    policies,
    reviews,
    rollback,
    rollout,
    webhooks,
    whatif,
)
from app.api.runtime import Runtime
from app.api.security_headers import http_middleware
from app.settings import Settings
from app.version import VERSION

_RESOURCES = (
    decide,
    decisions,
    held,
    contests,
    reviews,
    audit,
    channels,
    budgets,
    challenger,
    drafts,
    whatif,
    policies,
    rollback,
    governance,
    rollout,
    events,
    webhooks,
    outcomes,
    feeds,
    health,
)


class GateApp:
    """The ASGI application: the decision route in front, FastAPI behind it."""

    def __init__(self, settings: Settings) -> None:
        self.gate = Runtime(settings)
        self.api = _make_api(self.gate)
        self._app: ASGIApp = DecisionRoute(self.api, self.gate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def make_app(settings: Settings) -> GateApp:
    """The service for one worker process. Nothing is connected before its lifespan starts."""
    return GateApp(settings)


def _make_api(gate: Runtime) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await gate.start()
        try:
            yield
        finally:
            await gate.stop()

    limits = {
        decide.BATCH_PATH: None,
        outcomes.PATH: None,
        **dict.fromkeys(policies.DOCUMENT_PATHS, DOCUMENT_LIMIT_BYTES),
    }
    api = FastAPI(
        title="Channel Gate",
        summary="Pre-screens loan applications by acquisition channel.",
        version=VERSION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        middleware=http_middleware(body_limit_bytes=gate.settings.body_limit_bytes, body_limits=limits),
    )
    api.add_middleware(MeasureMiddleware)
    api.state.gate = gate
    install_error_handlers(api)
    for resource in _RESOURCES:
        api.include_router(resource.router)
    mount_docs(api)
    api.openapi = _openapi(api, gate.settings)  # type: ignore[method-assign]
    return api


def _openapi(api: FastAPI, settings: Settings) -> Callable[[], dict[str, Any]]:
    """FastAPI's document, with the schemas of what the routes read and answer by themselves."""

    def document() -> dict[str, Any]:
        if api.openapi_schema is None:
            schema = get_openapi(title=api.title, version=api.version, summary=api.summary, routes=api.routes)
            restore_examples(schema, (route for each in _RESOURCES for route in each.router.routes))
            components = schema.setdefault("components", {})
            components.setdefault("schemas", {}).update(
                {
                    **decide.payload_schemas(),
                    **outcomes.event_schemas(),
                    **policies.document_schemas(),
                    **problem_schemas(),
                }
            )
            components["securitySchemes"] = security_schemes(settings.oidc_issuer)
            api.openapi_schema = schema
        return api.openapi_schema

    return document
