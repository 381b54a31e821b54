"""Held decisions: what waits for room in its budgets, and what became of what did."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import Field

from app.api.auth import originator_of, require
from app.api.cursors import page_of, text_of
from app.api.problems import FieldError, Problem, ProblemType, problem_responses
from app.api.routes.decisions import READING_ROLES, WHOLE_VIEW_ROLES
from app.api.runtime import Runtime
from app.api.schemas.common import AnswerModel, RequestModel
from app.identities.principal import Principal
from app.journal.held import HeldDecision, HeldState, find_held, list_held

Caller = Annotated[Principal, Depends(require(*READING_ROLES))]

router = APIRouter(prefix="/v1/held-decisions", tags=["decisions"])


class HeldQuery(RequestModel):
    """A page of held decisions, the newest first."""

    state: HeldState = HeldState.WAITING
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str | None, Field(max_length=200, description="`next_cursor` of the page before.")] = None


class HeldDocument(AnswerModel):
    """One held decision. From `policy_version` on: of what it was resolved to, null before."""

    decision_id: UUID
    originator: str
    application_id: str
    revision: int
    channel_code: str
    product: str
    amount: int
    currency: str
    held_since: datetime
    lapses_at: datetime
    state: HeldState
    closed_at: datetime | None
    policy_version: int | None
    outcome: str | None
    next_action: str | None

    @classmethod
    def of(cls, held: HeldDecision) -> Self:
        """The document of a held decision."""
        return cls(**{name: getattr(held, name) for name in HeldDocument.model_fields})


class HeldDetail(HeldDocument):
    """One held decision with the answer that it would get now."""

    resolution: Annotated[
        dict[str, Any] | None, Field(description="The answer as it would be now, in the form of a decision's answer.")
    ]

    @classmethod
    def whole(cls, held: HeldDecision) -> Self:
        """The document of a held decision."""
        values = {name: getattr(held, name) for name in HeldDocument.model_fields}
        return cls(**values, resolution=None if held.response is None else orjson.loads(held.response))


class HeldPage(AnswerModel):
    """One page, the newest first."""

    items: tuple[HeldDocument, ...]
    next_cursor: str | None


@router.get("", summary="List held decisions", response_model=HeldPage, responses=problem_responses())
async def list_held_decisions(request: Request, query: Annotated[HeldQuery, Query()], caller: Caller) -> HeldPage:
    """What nothing but a budget keeps from being an accept. It is screened again when its budgets have room, and lapses
    after three days; the decision itself stays as it was answered.
    """
    gate: Runtime = request.app.state.gate
    before = _id_of(text_of(query.cursor))
    async with gate.read_engine.connect() as connection:
        found = await list_held(
            connection, originator_id=_own(caller), state=query.state, before=before, limit=query.limit + 1
        )
    page, next_cursor = page_of(found, query.limit, lambda each: str(each.decision_id))
    return HeldPage(items=tuple(HeldDocument.of(each) for each in page), next_cursor=next_cursor)


@router.get(
    "/{decision_id}",
    summary="What became of a held decision",
    response_model=HeldDetail,
    responses=problem_responses(ProblemType.NOT_FOUND),
)
async def get_held_decision(
    request: Request, decision_id: Annotated[UUID, Path(description="Of the decision.")], caller: Caller
) -> HeldDetail:
    """With the answer that it would get now, once it is resolved."""
    gate: Runtime = request.app.state.gate
    async with gate.read_engine.connect() as connection:
        found = await find_held(connection, decision_id, originator_id=_own(caller))
    if found is None:
        raise Problem(ProblemType.NOT_FOUND, "No held decision has this id.")
    return HeldDetail.whole(found)


def _own(caller: Principal) -> int | None:
    return caller.originator_id if caller.has_any(WHOLE_VIEW_ROLES) else originator_of(caller)


def _id_of(text: str | None) -> UUID | None:
    try:
        return None if text is None else UUID(text)
    except ValueError:
        fault = FieldError(pointer="#/query/cursor", detail="is not a cursor of this listing")
        raise Problem(ProblemType.INVALID_REQUEST, errors=[fault]) from None
