"""The rules of governance, differences between versions, break-glass, and change requests."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from fastapi import APIRouter, Body, Depends, Path, Query, Request
from sqlalchemy.ext.asyncio import AsyncConnection

from app.api.auth import require
from app.api.cursors import number_of, page_of
from app.api.problems import FieldError, Problem, ProblemType, problem_responses
from app.api.request_context import request_context
from app.api.routes.drafts import Reader, existing_draft
from app.api.runtime import Runtime
from app.api.schemas.change_requests import (
    BudgetEndRequest,
    BudgetRequest,
    ChangeApproval,
    ChangeQuery,
    ChangeRequestDocument,
    ChangeRequestPage,
    ChannelStateRequest,
    TierAssignmentRequest,
)
from app.api.schemas.governance import (
    MAX_NUMBER,
    BreakGlassDocument,
    BreakGlassPage,
    BreakGlassRequest,
    Closing,
    Confirmation,
    Differences,
    PageQuery,
    RulesDocument,
)
from app.api.schemas.policies import MAX_VERSION, DifferenceDocument
from app.api.signatures import signature_of
from app.channels import registry
from app.channels.tiers import Scope
from app.db.changes import Change
from app.domain.policy_changes import differences
from app.governance import break_glass, requests
from app.governance.drafts import DraftContent
from app.governance.persons import read_rules
from app.governance.requests import WantedChange
from app.identities.principal import Principal, Role
from app.policies.store import find_policy

Admin = Annotated[Principal, Depends(require(Role.ADMIN))]
Writer = Annotated[Principal, Depends(require(Role.POLICY_AUTHOR, Role.POLICY_APPROVER))]
Approver = Annotated[Principal, Depends(require(Role.POLICY_APPROVER))]
ChangeApprover = Annotated[Principal, Depends(require(Role.POLICY_APPROVER, Role.ADMIN))]
Version = Annotated[int, Path(ge=1, le=MAX_VERSION)]
Number = Annotated[int, Path(ge=1, le=MAX_NUMBER)]
ChangeId = Annotated[int, Path(ge=1, le=2**53)]
_CHANGED = (ProblemType.NOT_FOUND, ProblemType.CONFLICT, ProblemType.PRECONDITION_FAILED, ProblemType.BODY_TOO_LARGE)

_AnyRequest: TypeAlias = ChannelStateRequest | TierAssignmentRequest | BudgetRequest | BudgetEndRequest

router = APIRouter(tags=["governance"])


@router.get("/v1/governance", summary="What changes take", response_model=RulesDocument, responses=problem_responses())
async def get_governance(request: Request, _: Reader) -> RulesDocument:
    """The rules that the database holds everybody to. Only the owner of the database changes them."""
    gate: Runtime = request.app.state.gate
    async with gate.read_engine.connect() as connection:
        return RulesDocument.of(await read_rules(connection))


@router.get(
    "/v1/policies/{before:int}/differences/{after:int}",
    summary="What changes from one version to another",
    response_model=Differences,
    responses=problem_responses(ProblemType.NOT_FOUND),
)
async def get_differences(request: Request, before: Version, after: Version, _: Reader) -> Differences:
    """One change an entry, to read and for machines."""
    gate: Runtime = request.app.state.gate
    async with gate.read_engine.connect() as connection:
        first, second = await find_policy(connection, before), await find_policy(connection, after)
    if first is None or second is None:
        raise Problem(ProblemType.NOT_FOUND, "There is no such version.")
    found = differences(first.policy(), second.policy())
    return Differences(before=before, after=after, differences=tuple(DifferenceDocument.of(each) for each in found))


# Break-glass ----------------------------------------------------------------------------------------------------------


@router.get("/v1/break-glass", summary="List emergencies", response_model=BreakGlassPage, responses=problem_responses())
async def get_break_glass(request: Request, query: Annotated[PageQuery, Query()], _: Reader) -> BreakGlassPage:
    """Newest first."""
    gate: Runtime = request.app.state.gate
    async with gate.read_engine.connect() as connection:
        found = await break_glass.list_break_glass(
            connection, before_id=number_of(query.cursor, MAX_NUMBER), limit=query.limit + 1
        )
    page, next_cursor = page_of(found, query.limit, lambda each: each.break_glass_id)
    return BreakGlassPage(
        items=tuple(BreakGlassDocument.of(each) for each in page),
        next_cursor=next_cursor,
    )


@router.post(
    "/v1/break-glass",
    summary="Change the policy without a second person",
    status_code=201,
    response_model=BreakGlassDocument,
    responses=problem_responses(*_CHANGED),
)
async def open_break_glass(request: Request, body: BreakGlassRequest, caller: Writer) -> BreakGlassDocument:
    """Takes effect at once, raises an alert, and is undone at `expires_at` unless another person confirms it."""
    gate: Runtime = request.app.state.gate
    signature = signature_of(caller, body.proof)
    async with gate.admin_engine.connect() as connection:
        content = await _content(connection, body)
        opened = await break_glass.open_break_glass(
            connection,
            content,
            signature=signature,
            nonce=body.nonce,
            expires_at=body.expires_at,
            expected_active=None,
            reason=body.reason,
            change=_change(request, caller),
        )
    return BreakGlassDocument.of(opened)


@router.post(
    "/v1/break-glass/{number}/confirm",
    summary="Let a change of one person stand",
    response_model=BreakGlassDocument,
    responses=problem_responses(*_CHANGED),
)
async def confirm_break_glass(
    request: Request, number: Number, body: Confirmation, caller: Approver
) -> BreakGlassDocument:
    """As a second person, who signs the document that is active."""
    gate: Runtime = request.app.state.gate
    async with gate.admin_engine.connect() as connection:
        confirmed = await break_glass.confirm_break_glass(
            connection,
            number,
            signature=signature_of(caller, body.proof),
            document_digest=bytes.fromhex(body.document_digest),
            comment=body.comment,
            change=_change(request, caller),
        )
    return BreakGlassDocument.of(confirmed)


@router.post(
    "/v1/break-glass/{number}/end",
    summary="Bring the policy before back",
    response_model=BreakGlassDocument,
    responses=problem_responses(*_CHANGED),
)
async def end_break_glass(request: Request, number: Number, body: Closing, caller: Writer) -> BreakGlassDocument:
    """Before its time. What comes back was approved, so it is not signed."""
    gate: Runtime = request.app.state.gate
    async with gate.admin_engine.connect() as connection:
        ended = await break_glass.end_break_glass(
            connection, number, reason=body.reason, change=_change(request, caller)
        )
    return BreakGlassDocument.of(ended)


# Change requests ------------------------------------------------------------------------------------------------------


@router.get(
    "/v1/change-requests",
    summary="List change requests",
    response_model=ChangeRequestPage,
    responses=problem_responses(),
)
async def get_change_requests(request: Request, query: Annotated[ChangeQuery, Query()], _: Reader) -> ChangeRequestPage:
    """Newest first."""
    gate: Runtime = request.app.state.gate
    async with gate.read_engine.connect() as connection:
        found = await requests.list_changes(
            connection, state=query.state, before_id=number_of(query.cursor), limit=query.limit + 1
        )
    page, next_cursor = page_of(found, query.limit, lambda each: each.change_id)
    return ChangeRequestPage(
        items=tuple(ChangeRequestDocument.of(each) for each in page),
        next_cursor=next_cursor,
    )


@router.post(
    "/v1/change-requests",
    summary="Ask for a change that takes two persons",
    status_code=201,
    response_model=ChangeRequestDocument,
    responses=problem_responses(*_CHANGED),
)
async def create_change_request(
    request: Request,
    body: Annotated[_AnyRequest, Body(discriminator="kind")],
    caller: Admin,
) -> ChangeRequestDocument:
    """A channel goes up, a scope gets a tier, or a budget lets more through. Signed: act `request`, subject
    `<kind>:<channel>` (`*`: all channels), the payload.
    """
    gate: Runtime = request.app.state.gate
    signature = signature_of(caller, body.proof)
    async with gate.admin_engine.connect() as connection:
        if body.channel is not None and await registry.find_channel(connection, body.channel) is None:
            raise Problem(ProblemType.NOT_FOUND, "No channel has this code.")
        asked = await requests.request_change(
            connection,
            _wanted(body),
            reason=body.reason,
            signature=signature,
            nonce=body.nonce,
            change=_change(request, caller),
        )
    return ChangeRequestDocument.of(asked)


@router.get(
    "/v1/change-requests/{change_id}",
    summary="One change request",
    response_model=ChangeRequestDocument,
    responses=problem_responses(ProblemType.NOT_FOUND),
)
async def get_change_request(request: Request, change_id: ChangeId, _: Reader) -> ChangeRequestDocument:
    """With the digest and the nonce that an approval signs."""
    gate: Runtime = request.app.state.gate
    async with gate.read_engine.connect() as connection:
        found = await requests.find_change(connection, change_id)
    if found is None:
        raise Problem(ProblemType.NOT_FOUND, "There is no such change request.")
    return ChangeRequestDocument.of(found)


@router.post(
    "/v1/change-requests/{change_id}/approve",
    summary="Approve a change request",
    response_model=ChangeRequestDocument,
    responses=problem_responses(*_CHANGED),
)
async def approve_change_request(
    request: Request, change_id: ChangeId, body: ChangeApproval, caller: ChangeApprover
) -> ChangeRequestDocument:
    """As a second person. The change is made at once, or the request stays pending and the answer says why."""
    gate: Runtime = request.app.state.gate
    async with gate.admin_engine.connect() as connection:
        approved = await requests.approve_change(
            connection,
            change_id,
            signature=signature_of(caller, body.proof),
            payload_digest=bytes.fromhex(body.payload_digest),
            comment=body.comment,
            change=_change(request, caller),
        )
    return ChangeRequestDocument.of(approved)


@router.post(
    "/v1/change-requests/{change_id}/reject",
    summary="Reject a change request",
    response_model=ChangeRequestDocument,
    responses=problem_responses(*_CHANGED),
)
async def reject_change_request(
    request: Request, change_id: ChangeId, body: Closing, caller: ChangeApprover
) -> ChangeRequestDocument:
    """Ends a pending request."""
    return await _closed(request, change_id, "rejected", body, caller)


@router.post(
    "/v1/change-requests/{change_id}/withdraw",
    summary="Take a change request back",
    response_model=ChangeRequestDocument,
    responses=problem_responses(*_CHANGED),
)
async def withdraw_change_request(
    request: Request, change_id: ChangeId, body: Closing, caller: Admin
) -> ChangeRequestDocument:
    """Ends a pending request."""
    return await _closed(request, change_id, "withdrawn", body, caller)


async def _closed(
    request: Request, change_id: int, state: str, body: Closing, caller: Principal
) -> ChangeRequestDocument:
    gate: Runtime = request.app.state.gate
    async with gate.admin_engine.connect() as connection:
        closed = await requests.close_change(
            connection, change_id, state, note=body.reason, change=_change(request, caller)
        )
    return ChangeRequestDocument.of(closed)


def _wanted(body: _AnyRequest) -> WantedChange:
    if isinstance(body, ChannelStateRequest):
        return requests.channel_move(body.channel, before=body.before, after=body.after)
    if isinstance(body, BudgetRequest):
        return requests.budget_change(body.scope(), body.limits(), time_zone=body.time_zone)
    if isinstance(body, BudgetEndRequest):
        return requests.budget_end(body.channel, body.budget_id)
    scope = Scope(product=body.product, jurisdiction=body.jurisdiction)
    return requests.tier_change(body.channel, scope, tier=body.tier, cause=body.cause, valid_to=body.valid_to)


async def _content(connection: AsyncConnection, body: BreakGlassRequest) -> DraftContent:
    if (body.version is None) == (body.draft_id is None):
        fault = FieldError(pointer="", detail="names either a version or a draft")
        raise Problem(ProblemType.INVALID_REQUEST, errors=[fault])
    if body.version is not None:
        stored = await find_policy(connection, body.version)
        if stored is None:
            raise Problem(ProblemType.NOT_FOUND, "There is no such version.")
        return DraftContent.repeating(stored, comment=None, effective_from=None)
    draft = await existing_draft(connection, body.draft_id or 0)
    return DraftContent(name=draft.name, text=draft.text)


def _change(request: Request, caller: Principal) -> Change:
    return Change(actor=caller.subject, request_id=request_context(request.scope).request_id)
