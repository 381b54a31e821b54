"""The registry of channels, their tiers, and the named list."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from sqlalchemy.ext.asyncio import AsyncConnection

from app.api.auth import require
from app.api.cursors import number_of, page_of, text_of
from app.api.negotiation import preferred_media_type
from app.api.preconditions import (
    ETAG_HEADER,
    IF_MATCH_PARAMETER,
    etag,
    expected_version,
    required_version,
)
from app.api.problems import FieldError, Problem, ProblemType, problem_responses
from app.api.request_context import request_context
from app.api.runtime import Runtime
from app.api.schemas.channels import (
    AssignmentDocument,
    ChannelAmendment,
    ChannelDetail,
    ChannelDocument,
    ChannelPage,
    ChannelQuery,
    ChannelRegistration,
    ListedChannelDocument,
    NamedListDocument,
    StateMove,
    TierAtMoment,
    TierPage,
    TierQuery,
    TierRequest,
)
from app.api.schemas.common import Code
from app.channels import registry, tiers
from app.channels.named_list import named_list_csv, read_named_list
from app.db.changes import Change
from app.identities.principal import Principal, Role
from app.policies.store import StoredPolicy, active_policy, policy_at

_JSON, _CSV = "application/json", "text/csv"

Reader = Annotated[Principal, Depends(require())]
Admin = Annotated[Principal, Depends(require(Role.ADMIN))]

router = APIRouter(prefix="/v1", tags=["channels"])


# The registry ---------------------------------------------------------------------------------------------------------


@router.get("/channels", summary="List channels", response_model=ChannelPage, responses=problem_responses())
async def list_channels(request: Request, query: Annotated[ChannelQuery, Query()], _: Reader) -> ChannelPage:
    """A page of the registry in the order of the codes."""
    gate: Runtime = request.app.state.gate
    now = gate.now()
    where = registry.ChannelFilter(
        kind=query.kind,
        states=frozenset(query.state),
        owner=query.owner,
        expiring_within_days=query.expiring_within_days,
    )
    async with gate.read_engine.connect() as connection:
        found = await registry.list_channels(
            connection, where, at=now, after_code=text_of(query.cursor), limit=query.limit + 1
        )
    page, next_cursor = page_of(found, query.limit, lambda each: each.code)
    return ChannelPage(
        items=tuple(ChannelDocument.of(channel, now) for channel in page),
        next_cursor=next_cursor,
    )


@router.post(
    "/channels",
    summary="Register a channel",
    status_code=201,
    response_model=ChannelDocument,
    responses={
        201: {"headers": ETAG_HEADER},
        **problem_responses(ProblemType.CONFLICT, ProblemType.BODY_TOO_LARGE),
    },
)
async def register_channel(
    request: Request, response: Response, body: ChannelRegistration, caller: Admin
) -> ChannelDocument:
    """Puts a channel on the list. Applications are decided for it once it is on probation or active."""
    gate: Runtime = request.app.state.gate
    now = gate.now()
    registration = registry.Registration(
        code=body.code,
        name=body.name,
        kind=body.kind,
        owner=body.owner,
        state=body.state,
        agreement_id=body.agreement_id,
        services=body.services,
        valid_from=body.valid_from or now,
        valid_to=body.valid_to,
    )
    async with gate.admin_engine.connect() as connection:
        channel = await registry.register(connection, registration, reason=body.reason, change=_change(request, caller))
    response.headers["Location"] = f"/v1/channels/{channel.code}"
    return _tagged(response, channel, now)


@router.get(
    "/channels/{code}",
    summary="One channel with its history",
    response_model=ChannelDetail,
    responses={200: {"headers": ETAG_HEADER}, **problem_responses(ProblemType.NOT_FOUND)},
)
async def get_channel(request: Request, response: Response, code: Code, _: Reader) -> ChannelDetail:
    """The channel that has this code; an alias is not a code."""
    gate: Runtime = request.app.state.gate
    async with gate.read_engine.connect() as connection:
        channel = await _channel(connection, code)
        history = await registry.state_history(connection, channel.channel_id)
    response.headers["ETag"] = etag(channel.revision)
    return ChannelDetail.with_history(channel, history, gate.now())


@router.patch(
    "/channels/{code}",
    summary="Amend a channel",
    response_model=ChannelDocument,
    responses={
        200: {"headers": ETAG_HEADER},
        **problem_responses(
            ProblemType.NOT_FOUND,
            ProblemType.PRECONDITION_FAILED,
            ProblemType.PRECONDITION_REQUIRED,
            ProblemType.BODY_TOO_LARGE,
        ),
    },
    openapi_extra={"parameters": [IF_MATCH_PARAMETER]},
)
async def amend_channel(
    request: Request, response: Response, code: Code, body: ChannelAmendment, caller: Admin
) -> ChannelDocument:
    """Changes name, owner, agreement, services or validity. If-Match names the revision that it was read at."""
    gate: Runtime = request.app.state.gate
    revision = required_version(request)
    async with gate.admin_engine.connect() as connection:
        channel = await registry.amend(
            connection,
            code,
            body.changes(),
            expected_revision=revision,
            reason=body.reason,
            change=_change(request, caller),
        )
    return _tagged(response, channel, gate.now())


@router.post(
    "/channels/{code}/state",
    summary="Move a channel to another state",
    response_model=ChannelDocument,
    responses={
        200: {"headers": ETAG_HEADER},
        **problem_responses(
            ProblemType.NOT_FOUND, ProblemType.CONFLICT, ProblemType.PRECONDITION_FAILED, ProblemType.BODY_TOO_LARGE
        ),
    },
    openapi_extra={"parameters": [IF_MATCH_PARAMETER]},
)
async def move_channel(
    request: Request, response: Response, code: Code, body: StateMove, caller: Admin
) -> ChannelDocument:
    """Once this answers, no accept for a suspended or exited channel can be committed. If-Match may be left out.

    A proposed channel moves to probation; probation and active lead to each other and to suspended; suspended leads
    back to both; every state leads to exited, which is final. With `"open_reservations": "void"` what the channel has
    open is voided in the same transaction, and the originators are told by events.
    """
    gate: Runtime = request.app.state.gate
    revision = expected_version(request)
    change = _change(request, caller)
    async with gate.admin_engine.connect() as connection:
        if body.open_reservations == "void":
            channel, _ = await registry.kill(
                connection, code, body.state, reason=body.reason, expected_revision=revision, change=change
            )
        else:
            channel = await registry.set_state(
                connection, code, body.state, reason=body.reason, expected_revision=revision, change=change
            )
    return _tagged(response, channel, gate.now())


@router.put(
    "/channels/{code}/aliases/{alias}",
    summary="Let another tag mean this channel",
    response_model=ChannelDocument,
    responses={200: {"headers": ETAG_HEADER}, **problem_responses(ProblemType.NOT_FOUND, ProblemType.CONFLICT)},
)
async def put_alias(request: Request, response: Response, code: Code, alias: Code, caller: Admin) -> ChannelDocument:
    """Does nothing where the tag is an alias of this channel already."""
    gate: Runtime = request.app.state.gate
    async with gate.admin_engine.connect() as connection:
        await registry.put_alias(connection, code, alias, change=_change(request, caller))
        channel = await _channel(connection, code)
    return _tagged(response, channel, gate.now())


@router.delete(
    "/channels/{code}/aliases/{alias}",
    summary="Take a tag from this channel",
    status_code=204,
    response_class=Response,
    responses=problem_responses(ProblemType.NOT_FOUND),
)
async def remove_alias(request: Request, code: Code, alias: Code, caller: Admin) -> Response:
    """From then on the tag is an unknown channel code."""
    gate: Runtime = request.app.state.gate
    async with gate.admin_engine.connect() as connection:
        removed = await registry.remove_alias(connection, code, alias, change=_change(request, caller))
    if not removed:
        raise Problem(ProblemType.NOT_FOUND, "The channel has no such alias.")
    return Response(status_code=204)


# Tiers ----------------------------------------------------------------------------------------------------------------


@router.get(
    "/channels/{code}/tiers",
    summary="Which tier a channel had, and its assignments",
    response_model=TierPage,
    responses=problem_responses(ProblemType.NOT_FOUND),
)
async def get_tiers(request: Request, code: Code, query: Annotated[TierQuery, Query()], _: Reader) -> TierPage:
    """`effective` answers for one product, jurisdiction and moment: the most specific scope wins, a product before a
    jurisdiction. Where nothing was assigned, the default tier of the policy that was active then holds.
    """
    gate: Runtime = request.app.state.gate
    at = query.at or gate.now()
    scope = tiers.Scope(product=query.product, jurisdiction=query.jurisdiction)
    async with gate.read_engine.connect() as connection:
        channel = await _channel(connection, code)
        assignment = await tiers.assignment_at(connection, code, scope, at)
        policy = None if assignment is not None else await policy_at(connection, at)
        found = await tiers.history(
            connection, channel.channel_id, before_id=number_of(query.cursor), limit=query.limit + 1
        )
    page, next_cursor = page_of(found, query.limit, lambda each: each.assignment_id)
    return TierPage(
        effective=_effective(at, scope, assignment, policy),
        items=tuple(AssignmentDocument.of(each) for each in page),
        next_cursor=next_cursor,
    )


@router.post(
    "/channels/{code}/tiers",
    summary="Give a scope of a channel its tier",
    status_code=201,
    response_model=AssignmentDocument,
    responses={
        201: {"description": "The assignment. The one that was open at its begin ends there."},
        **problem_responses(ProblemType.NOT_FOUND, ProblemType.CONFLICT, ProblemType.BODY_TOO_LARGE),
    },
)
async def assign_tier(request: Request, code: Code, body: TierRequest, caller: Admin) -> AssignmentDocument:
    """Holds over [valid_from, valid_to) for new decisions. An assignment is never changed but for its open end, begins
    at most five minutes ago (the first one of a scope, with the cause `initial`, may begin earlier), and overlaps no
    other one of its scope.
    """
    gate: Runtime = request.app.state.gate
    async with gate.admin_engine.connect() as connection:
        _check_scope(await active_policy(connection), body)
        assignment = await tiers.assign(
            connection,
            code,
            tiers.Scope(product=body.product, jurisdiction=body.jurisdiction),
            tier=body.tier,
            valid_from=body.valid_from or gate.now(),
            valid_to=body.valid_to,
            cause=body.cause,
            reason=body.reason,
            change=_change(request, caller),
        )
    return AssignmentDocument.of(assignment)


# The named list -------------------------------------------------------------------------------------------------------


@router.get(
    "/named-list",
    summary="The named list",
    response_model=NamedListDocument,
    responses={
        200: {"content": {_CSV: {"schema": {"type": "string"}}}},
        **problem_responses(ProblemType.NOT_ACCEPTABLE),
    },
)
async def named_list(request: Request, _: Reader) -> Response:
    """Every channel that may be named in an application now, and those that left; JSON, or CSV by Accept: text/csv."""
    gate: Runtime = request.app.state.gate
    media_type = preferred_media_type(request.headers.get("accept"), (_JSON, _CSV))
    now = gate.now()
    async with gate.read_engine.connect() as connection:
        listed = await read_named_list(connection, at=now)
        policy = await active_policy(connection)
    default_tier = None if policy is None else policy.policy().default_tier
    if media_type == _CSV:
        name = f"named-list-{now:%Y-%m-%d}.csv"
        return Response(
            named_list_csv(listed, default_tier=default_tier),
            media_type=_CSV,
            headers={"Content-Disposition": f'attachment; filename="{name}"', "Vary": "Accept"},
        )
    rows = tuple(ListedChannelDocument.of(entry, default_tier) for entry in listed)
    document = NamedListDocument(at=now, items=rows).model_dump_json()
    return Response(document, media_type=_JSON, headers={"Vary": "Accept"})


def _change(request: Request, caller: Principal) -> Change:
    return Change(actor=caller.subject, request_id=request_context(request.scope).request_id)


def _tagged(response: Response, channel: registry.RegisteredChannel, at: datetime) -> ChannelDocument:
    response.headers["ETag"] = etag(channel.revision)
    return ChannelDocument.of(channel, at)


async def _channel(connection: AsyncConnection, code: str) -> registry.RegisteredChannel:
    channel = await registry.find_channel(connection, code)
    if channel is None:
        raise Problem(ProblemType.NOT_FOUND, "No channel has this code.")
    return channel


def _effective(
    at: datetime, scope: tiers.Scope, assignment: tiers.Assignment | None, policy: StoredPolicy | None
) -> TierAtMoment:
    source = "assignment" if assignment is not None else "policy_default" if policy is not None else "none"
    default = None if policy is None else policy.policy().default_tier
    return TierAtMoment(
        at=at,
        product=scope.product,
        jurisdiction=scope.jurisdiction,
        tier=default if assignment is None else assignment.tier,
        source=source,
        assignment=None if assignment is None else AssignmentDocument.of(assignment),
        policy_version=None if policy is None else policy.version,
    )


def _check_scope(stored: StoredPolicy | None, body: TierRequest) -> None:
    """A scope or tier that no decision can meet is a slip of the pen."""
    if stored is None:
        return
    policy = stored.policy()
    allowed: dict[str, tuple[str | None, tuple[str, ...] | None]] = {
        "tier": (body.tier, tuple(tier.code for tier in policy.tiers)),
        "product": (body.product, tuple(policy.products)),
        "jurisdiction": (body.jurisdiction, policy.jurisdictions),
    }
    faults = [
        FieldError(pointer=f"/{name}", detail="the active policy does not name it")
        for name, (given, known) in allowed.items()
        if given is not None and known is not None and given not in known
    ]
    if faults:
        raise Problem(ProblemType.INVALID_REQUEST, errors=faults)
