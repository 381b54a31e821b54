"""Webhooks: where originators are told."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import Response

from app.api.auth import require
from app.api.problems import FieldError, Problem, ProblemType, problem_responses
from app.api.request_context import request_context
from app.api.routes.events import own_originator
from app.api.runtime import Runtime
from app.api.schemas.events import (
    SecretRotation,
    WebhookClosing,
    WebhookDocument,
    WebhookList,
    WebhookRequest,
    WebhookWithSecret,
)
from app.db.changes import Change
from app.events import endpoints
from app.events.guard import BlockedUrlError
from app.events.secrets import SecretKeys
from app.identities.principal import Principal, Role

_NO_STORE = "no-store"

Reader = Annotated[Principal, Depends(require(Role.ORIGINATION, Role.ADMIN))]
Admin = Annotated[Principal, Depends(require(Role.ADMIN))]
WebhookId = Annotated[UUID, Path()]

router = APIRouter(prefix="/v1/webhooks", tags=["events"])


@router.get("", summary="List webhooks", response_model=WebhookList, responses=problem_responses())
async def list_webhooks(request: Request, caller: Reader) -> WebhookList:
    """Those of the caller's originator; an admin without one sees everybody's. Secrets are not shown again."""
    gate: Runtime = request.app.state.gate
    async with gate.read_engine.connect() as connection:
        found = await endpoints.list_endpoints(connection, originator_id=own_originator(caller))
    return WebhookList(items=tuple(WebhookDocument.of(each) for each in found))


@router.post(
    "",
    summary="Register a webhook",
    status_code=201,
    response_model=WebhookWithSecret,
    responses=problem_responses(ProblemType.NOT_FOUND, ProblemType.CONFLICT, ProblemType.BODY_TOO_LARGE),
)
async def create_webhook(
    request: Request, response: Response, body: WebhookRequest, caller: Admin
) -> WebhookWithSecret:
    """The originator is told there of what happens from now on. The secret is shown this once."""
    gate: Runtime = request.app.state.gate
    keys = _keys(gate)
    try:
        async with gate.admin_engine.connect() as connection:
            endpoint, secret = await endpoints.create_endpoint(
                connection,
                originator=body.originator,
                url=body.url,
                kinds=body.kinds,
                description=body.description,
                guard=gate.webhook_guard,
                keys=keys,
                change=_change(request, caller),
            )
    except BlockedUrlError as error:
        raise Problem(ProblemType.INVALID_REQUEST, errors=[FieldError(pointer="/url", detail=str(error))]) from None
    response.headers["Location"] = f"/v1/webhooks/{endpoint.endpoint_id}"
    response.headers["Cache-Control"] = _NO_STORE
    return WebhookWithSecret.with_secret(endpoint, secret)


@router.get(
    "/{webhook_id}",
    summary="One webhook",
    response_model=WebhookDocument,
    responses=problem_responses(ProblemType.NOT_FOUND),
)
async def read_webhook(request: Request, webhook_id: WebhookId, caller: Reader) -> WebhookDocument:
    """With its secrets' numbers and times, without their texts."""
    gate: Runtime = request.app.state.gate
    async with gate.read_engine.connect() as connection:
        found = await endpoints.find_endpoint(connection, webhook_id, originator_id=own_originator(caller))
    if found is None:
        raise Problem(ProblemType.NOT_FOUND, "There is no such webhook.")
    return WebhookDocument.of(found)


@router.post(
    "/{webhook_id}/rotate",
    summary="Give a webhook a new secret",
    response_model=WebhookWithSecret,
    responses=problem_responses(ProblemType.NOT_FOUND, ProblemType.CONFLICT, ProblemType.BODY_TOO_LARGE),
)
async def rotate_webhook(
    request: Request, response: Response, webhook_id: WebhookId, body: SecretRotation, caller: Admin
) -> WebhookWithSecret:
    """Deliveries carry a signature of each secret until the overlap ends. The new secret is shown this once."""
    gate: Runtime = request.app.state.gate
    keys = _keys(gate)
    async with gate.admin_engine.connect() as connection:
        endpoint, secret = await endpoints.rotate_secret(
            connection,
            webhook_id,
            overlap=timedelta(hours=body.overlap_hours),
            reason=body.reason,
            keys=keys,
            change=_change(request, caller),
        )
    response.headers["Cache-Control"] = _NO_STORE
    return WebhookWithSecret.with_secret(endpoint, secret)


@router.post(
    "/{webhook_id}/disable",
    summary="End a webhook",
    response_model=WebhookDocument,
    responses=problem_responses(ProblemType.NOT_FOUND, ProblemType.CONFLICT, ProblemType.BODY_TOO_LARGE),
)
async def disable_webhook(
    request: Request, webhook_id: WebhookId, body: WebhookClosing, caller: Admin
) -> WebhookDocument:
    """For good. What was still to be sent there is given up; the originator can fetch it from `/v1/events`."""
    gate: Runtime = request.app.state.gate
    async with gate.admin_engine.connect() as connection:
        endpoint = await endpoints.disable_endpoint(
            connection, webhook_id, reason=body.reason, change=_change(request, caller)
        )
    return WebhookDocument.of(endpoint)


def _keys(gate: Runtime) -> SecretKeys:
    if gate.webhook_keys is None:
        raise Problem(ProblemType.CONFLICT, "This service has no GATE_WEBHOOK_KEYS, so it has no webhooks.")
    return gate.webhook_keys


def _change(request: Request, caller: Principal) -> Change:
    return Change(actor=caller.subject, request_id=request_context(request.scope).request_id)
