"""What becomes of a decision after it was answered, for the origination system: contests and resolutions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from app.api.auth import originator_of, require
from app.api.problems import ProblemType, problem_responses
from app.api.routes.reviews import DecisionId, change_of, review_of
from app.api.runtime import Runtime
from app.api.schemas.reviews import ContestRequest, ResolutionDocument
from app.identities.principal import OriginatorId, Principal, Role
from app.reviews import work

Asker = Annotated[Principal, Depends(require(Role.ORIGINATION, Role.REVIEWER, Role.ADMIN))]
Follower = Annotated[Principal, Depends(require(Role.ORIGINATION, Role.REVIEWER, Role.ANALYST, Role.ADMIN))]

router = APIRouter(tags=["decisions"])


@router.post(
    "/v1/decisions/{decision_id}/contest",
    summary="Contest a reject",
    status_code=201,
    response_model=ResolutionDocument,
    responses={
        200: {"description": "It was contested before.", "model": ResolutionDocument},
        **problem_responses(ProblemType.NOT_FOUND, ProblemType.CONFLICT, ProblemType.BODY_TOO_LARGE),
    },
)
async def contest_decision(
    *,
    request: Request,
    response: Response,
    decision_id: DecisionId,
    caller: Asker,
    body: ContestRequest | None = None,
) -> ResolutionDocument:
    """The applicant asks that a person looks at it: it enters the reviewers' queue, once, due in 30 days."""
    gate: Runtime = request.app.state.gate
    async with gate.admin_engine.connect() as connection:
        review, is_new = await work.contest(
            connection,
            decision_id,
            originator_id=_own(caller),
            reason=None if body is None else body.reason,
            change=change_of(request, caller),
        )
    if not is_new:
        response.status_code = 200
    return ResolutionDocument.of(review)


@router.get(
    "/v1/decisions/{decision_id}/resolution",
    summary="What a review has come to",
    response_model=ResolutionDocument,
    responses=problem_responses(ProblemType.NOT_FOUND),
)
async def read_resolution(request: Request, decision_id: DecisionId, caller: Follower) -> ResolutionDocument:
    """The decision stays as it was answered; this is what a person has made of it. The event `decision.resolved` says
    so, too.
    """
    return ResolutionDocument.of(await review_of(request, decision_id, _own(caller)))


def _own(caller: Principal) -> OriginatorId | None:
    """Whose decisions the caller may ask for; None: everybody's."""
    if caller.has_any((Role.REVIEWER, Role.ANALYST, Role.ADMIN)):
        return caller.originator_id
    return originator_of(caller)
