"""Budgets: what limits the accepts of a channel, and how much of it is left."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response
from sqlalchemy.ext.asyncio import AsyncConnection

from app.api.auth import require
from app.api.cursors import number_of, page_of
from app.api.preconditions import ETAG_HEADER, IF_MATCH_PARAMETER, etag, expected_version, required_version
from app.api.problems import Problem, ProblemType, problem_responses
from app.api.request_context import request_context
from app.api.runtime import Runtime
from app.api.schemas.budgets import (
    BudgetAmendment,
    BudgetDocument,
    BudgetEnding,
    BudgetOpening,
    BudgetPage,
    BudgetQuery,
    ChannelBudgets,
)
from app.api.schemas.common import Code
from app.channels import budgets, registry
from app.channels.budgets import BudgetUse
from app.db.changes import Change
from app.identities.principal import Principal, Role

Reader = Annotated[
    Principal, Depends(require(Role.ANALYST, Role.REVIEWER, Role.POLICY_AUTHOR, Role.POLICY_APPROVER, Role.ADMIN))
]
Admin = Annotated[Principal, Depends(require(Role.ADMIN))]
BudgetNumber = Annotated[int, Path(ge=1, le=2**53)]
_MUST_BE_NEW = 0
"""The revision that no budget has."""

router = APIRouter(prefix="/v1", tags=["budgets"])


@router.get(
    "/channels/{code}/budgets",
    summary="What limits a channel, and how much is left",
    response_model=ChannelBudgets,
    responses=problem_responses(ProblemType.NOT_FOUND),
)
async def get_channel_budgets(request: Request, code: Code, _: Reader) -> ChannelBudgets:
    """Every open budget that an accept of the channel may fall under: its own, and those of all channels. An accept
    takes of all that cover it, or is held.
    """
    gate: Runtime = request.app.state.gate
    at = gate.now()
    async with gate.read_engine.connect() as connection:
        channel = await registry.find_channel(connection, code)
        if channel is None:
            raise Problem(ProblemType.NOT_FOUND, "No channel has this code.")
        found = await budgets.uses_of_channel(connection, channel.channel_id, at=at)
    return ChannelBudgets(at=at, channel=channel.code, items=tuple(BudgetDocument.of(each) for each in found))


@router.get("/budgets", summary="List budgets", response_model=BudgetPage, responses=problem_responses())
async def list_budgets(request: Request, query: Annotated[BudgetQuery, Query()], _: Reader) -> BudgetPage:
    """In the order in which they were opened, each with what has been taken of its present period."""
    gate: Runtime = request.app.state.gate
    at = gate.now()
    async with gate.read_engine.connect() as connection:
        found = await budgets.list_uses(
            connection,
            at=at,
            channel=query.channel,
            ended=query.ended,
            after_id=number_of(query.cursor),
            limit=query.limit + 1,
        )
    page, next_cursor = page_of(found, query.limit, lambda each: each.budget.budget_id)
    return BudgetPage(at=at, items=tuple(BudgetDocument.of(each) for each in page), next_cursor=next_cursor)


@router.post(
    "/budgets",
    summary="Open a budget",
    status_code=201,
    response_model=BudgetDocument,
    responses={
        201: {"headers": ETAG_HEADER},
        **problem_responses(ProblemType.NOT_FOUND, ProblemType.CONFLICT, ProblemType.BODY_TOO_LARGE),
    },
)
async def open_budget(request: Request, response: Response, body: BudgetOpening, caller: Admin) -> BudgetDocument:
    """Holds for every accept that commits after this answers. One person may do it: it lets nothing through that was
    not let through before. Accepts and loans that there are in its period already count.
    """
    gate: Runtime = request.app.state.gate
    async with gate.admin_engine.connect() as connection:
        budget = await budgets.set_budget(
            connection,
            body.scope(),
            body.limits(),
            time_zone=body.time_zone,
            expected_revision=_MUST_BE_NEW,
            reason=body.reason,
            change=_change(request, caller),
        )
        use = await _existing(connection, budget.budget_id, gate)
    response.headers["Location"] = f"/v1/budgets/{budget.budget_id}"
    return _tagged(response, use)


@router.get(
    "/budgets/{budget_id}",
    summary="One budget",
    response_model=BudgetDocument,
    responses={200: {"headers": ETAG_HEADER}, **problem_responses(ProblemType.NOT_FOUND)},
)
async def get_budget(request: Request, response: Response, budget_id: BudgetNumber, _: Reader) -> BudgetDocument:
    """With what has been taken of its present period. The ETag names its limits, not what has been taken."""
    gate: Runtime = request.app.state.gate
    async with gate.read_engine.connect() as connection:
        return _tagged(response, await _existing(connection, budget_id, gate))


@router.patch(
    "/budgets/{budget_id}",
    summary="Change the limits of a budget",
    response_model=BudgetDocument,
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
async def amend_budget(
    request: Request, response: Response, budget_id: BudgetNumber, body: BudgetAmendment, caller: Admin
) -> BudgetDocument:
    """If-Match names the revision that it was read at. A limit may lie below what has been taken: then nothing more is.
    What lets more through is refused where changes take two persons: ask for it as a change request.
    """
    gate: Runtime = request.app.state.gate
    revision = required_version(request)
    async with gate.admin_engine.connect() as connection:
        before = _open(await _existing(connection, budget_id, gate))
        await budgets.set_budget(
            connection,
            before.budget.scope,
            replace(before.budget.limits, **body.changes()),
            time_zone=before.budget.time_zone,
            expected_revision=revision,
            reason=body.reason,
            change=_change(request, caller),
        )
        return _tagged(response, await _existing(connection, budget_id, gate))


@router.post(
    "/budgets/{budget_id}/end",
    summary="End a budget",
    response_model=BudgetDocument,
    responses={
        200: {"headers": ETAG_HEADER},
        **problem_responses(ProblemType.NOT_FOUND, ProblemType.PRECONDITION_FAILED, ProblemType.BODY_TOO_LARGE),
    },
    openapi_extra={"parameters": [IF_MATCH_PARAMETER]},
)
async def end_budget(
    request: Request, response: Response, budget_id: BudgetNumber, body: BudgetEnding, caller: Admin
) -> BudgetDocument:
    """Accepts take of it no more. What has been taken stays written down, and still resolves. If-Match may be left out.
    Refused where changes take two persons: ask for it as a change request.
    """
    gate: Runtime = request.app.state.gate
    revision = expected_version(request)
    async with gate.admin_engine.connect() as connection:
        before = _open(await _existing(connection, budget_id, gate))
        if revision is not None and revision != before.budget.revision:
            raise Problem(ProblemType.PRECONDITION_FAILED)
        await budgets.end_budget(connection, budget_id, reason=body.reason, change=_change(request, caller))
        return _tagged(response, await _existing(connection, budget_id, gate))


async def _existing(connection: AsyncConnection, budget_id: int, gate: Runtime) -> BudgetUse:
    found = await budgets.find_use(connection, budget_id, at=gate.now())
    if found is None:
        raise Problem(ProblemType.NOT_FOUND, "There is no such budget.")
    return found


def _open(use: BudgetUse) -> BudgetUse:
    if use.budget.ended_at is not None:
        raise Problem(ProblemType.NOT_FOUND, "There is no such open budget.")
    return use


def _tagged(response: Response, use: BudgetUse) -> BudgetDocument:
    response.headers["ETag"] = etag(use.budget.revision)
    return BudgetDocument.of(use)


def _change(request: Request, caller: Principal) -> Change:
    return Change(actor=caller.subject, request_id=request_context(request.scope).request_id)
