"""Reviews: the queue, and what reviewers make of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from app.api.auth import require
from app.api.cursors import page_of, text_of
from app.api.preconditions import ETAG_HEADER, IF_MATCH_PARAMETER, etag, required_version
from app.api.problems import FieldError, Problem, ProblemType, problem_responses
from app.api.request_context import request_context
from app.api.runtime import Runtime
from app.api.schemas.reviews import (
    ActionDocument,
    ClaimRequest,
    PriorityRequest,
    ResolutionRequest,
    ReviewApproval,
    ReviewDecline,
    ReviewDocument,
    ReviewHistory,
    ReviewPage,
    ReviewQuery,
)
from app.api.signatures import signature_of
from app.db.changes import Change
from app.domain.review import Resolution, ReviewState
from app.identities.principal import Principal, Role
from app.observability import metrics
from app.reviews import queue, work
from app.reviews.queue import Place, Review, ReviewFilter

Reader = Annotated[Principal, Depends(require(Role.REVIEWER, Role.ANALYST, Role.ADMIN))]
Reviewer = Annotated[Principal, Depends(require(Role.REVIEWER))]
DecisionId = Annotated[UUID, Path(description="`decision_id` of what is reviewed.")]

_ONE = "/v1/reviews/{decision_id}"
_TAGGED: dict[int | str, dict[str, Any]] = {200: {"headers": ETAG_HEADER}}
_CHANGED = problem_responses(ProblemType.NOT_FOUND, ProblemType.CONFLICT)
_GUARDED = problem_responses(
    ProblemType.NOT_FOUND,
    ProblemType.CONFLICT,
    ProblemType.PRECONDITION_FAILED,
    ProblemType.PRECONDITION_REQUIRED,
    ProblemType.BODY_TOO_LARGE,
)
_MATCHED = {"parameters": [{**IF_MATCH_PARAMETER, "required": True}]}
_MAX_VERSION = 10**18

router = APIRouter(tags=["reviews"])


@router.get("/v1/reviews", summary="List reviews", response_model=ReviewPage, responses=problem_responses())
async def list_reviews(request: Request, query: Annotated[ReviewQuery, Query()], caller: Reader) -> ReviewPage:
    """What waits for a person, by due date. Every escalation is here as soon as it was answered; counter-offers and
    what is held for a budget are not.
    """
    now = datetime.now(UTC)
    wanted = ReviewFilter(
        closed=query.closed,
        state=query.state,
        kind=query.kind,
        age=query.age,
        holder=query.holder,
        channel_code=query.channel,
        originator_id=caller.originator_id,
    )
    gate: Runtime = request.app.state.gate
    after = _place(query.cursor)
    async with gate.read_engine.begin() as connection:
        await queue.gather(connection)
    async with gate.read_engine.connect() as connection:
        found = await queue.list_reviews(connection, wanted, at=now, after=after, limit=query.limit + 1)
    page, next_cursor = page_of(found, query.limit, lambda each: f"{each.due_at.isoformat()} {each.decision_id}")
    return ReviewPage(items=tuple(ReviewDocument.of(each, now) for each in page), next_cursor=next_cursor)


@router.post(
    "/v1/reviews/claim",
    summary="Claim the next review",
    response_model=ReviewDocument,
    responses={
        **_TAGGED,
        204: {"description": "Nothing waits that nobody holds."},
        **problem_responses(ProblemType.BODY_TOO_LARGE),
    },
)
async def claim_next_review(
    request: Request, response: Response, caller: Reviewer, body: ClaimRequest | None = None
) -> Any:
    """The one that comes first: what has two days or less, then by priority, then what is due first. Reviewers who ask
    at once get different ones. The claim ends with its lease, a release or a resolution.
    """
    gate: Runtime = request.app.state.gate
    async with gate.admin_engine.connect() as connection:
        review = await work.claim_next(
            connection, holder=_holder(caller), lease=_lease(body), change=change_of(request, caller)
        )
    return Response(status_code=204) if review is None else _shown(response, review)


@router.get(
    _ONE,
    summary="One review",
    response_model=ReviewDocument,
    responses={**_TAGGED, **problem_responses(ProblemType.NOT_FOUND)},
)
async def read_review(request: Request, response: Response, decision_id: DecisionId, caller: Reader) -> ReviewDocument:
    """The decision itself, with observed values and thresholds, is at `/v1/decisions/{decision_id}`."""
    return _shown(response, await review_of(request, decision_id, caller.originator_id))


@router.get(
    f"{_ONE}/history",
    summary="The history of a review",
    response_model=ReviewHistory,
    responses=problem_responses(ProblemType.NOT_FOUND),
)
async def read_review_history(request: Request, decision_id: DecisionId, caller: Reader) -> ReviewHistory:
    """Who did what about it, and why."""
    await review_of(request, decision_id, caller.originator_id)
    gate: Runtime = request.app.state.gate
    async with gate.read_engine.connect() as connection:
        done = await queue.history(connection, decision_id)
    return ReviewHistory(items=tuple(ActionDocument.of(each) for each in done))


@router.post(
    f"{_ONE}/claim",
    summary="Claim a review",
    response_model=ReviewDocument,
    responses={
        **_TAGGED,
        **problem_responses(ProblemType.NOT_FOUND, ProblemType.CONFLICT, ProblemType.BODY_TOO_LARGE),
    },
)
async def claim_review(
    *, request: Request, response: Response, decision_id: DecisionId, caller: Reviewer, body: ClaimRequest | None = None
) -> ReviewDocument:
    """This one. Who holds it already holds it for longer."""
    await review_of(request, decision_id, caller.originator_id)
    gate: Runtime = request.app.state.gate
    async with gate.admin_engine.connect() as connection:
        review = await work.claim(
            connection, decision_id, holder=_holder(caller), lease=_lease(body), change=change_of(request, caller)
        )
    return _shown(response, review)


@router.delete(
    f"{_ONE}/claim",
    summary="Release a review",
    response_model=ReviewDocument,
    responses={**_TAGGED, **_CHANGED},
)
async def release_review(
    request: Request, response: Response, decision_id: DecisionId, caller: Reviewer
) -> ReviewDocument:
    """Back into the queue, before the lease is over."""
    await review_of(request, decision_id, caller.originator_id)
    gate: Runtime = request.app.state.gate
    async with gate.admin_engine.connect() as connection:
        review = await work.release(connection, decision_id, holder=_holder(caller), change=change_of(request, caller))
    return _shown(response, review)


@router.patch(
    _ONE,
    summary="Set the priority of a review",
    response_model=ReviewDocument,
    responses={**_TAGGED, **_GUARDED},
    openapi_extra=_MATCHED,
)
async def amend_review(
    *,
    request: Request,
    response: Response,
    decision_id: DecisionId,
    body: PriorityRequest,
    caller: Annotated[Principal, Depends(require(Role.REVIEWER, Role.ADMIN))],
) -> ReviewDocument:
    """Before others, or behind them. What has two days or less comes first whatever its priority."""
    version = min(required_version(request), _MAX_VERSION)
    await review_of(request, decision_id, caller.originator_id)
    gate: Runtime = request.app.state.gate
    async with gate.admin_engine.connect() as connection:
        review = await work.prioritise(
            connection,
            decision_id,
            version=version,
            priority=body.priority,
            reason=body.reason,
            change=change_of(request, caller),
        )
    return _shown(response, review)


@router.post(
    f"{_ONE}/resolution",
    summary="Resolve a review",
    response_model=ReviewDocument,
    responses={
        **_TAGGED,
        202: {
            "description": "It is proposed to accept it: a second person has to approve.",
            "model": ReviewDocument,
            "headers": ETAG_HEADER,
        },
        **_GUARDED,
    },
    openapi_extra=_MATCHED,
)
async def resolve_review(
    *, request: Request, response: Response, decision_id: DecisionId, body: ResolutionRequest, caller: Reviewer
) -> ReviewDocument:
    """By who has claimed it. An acceptance looks at the channel, the person and the budgets as they are now, and
    reserves budget; where one of them does not allow it, the answer says which, and nothing has changed.
    """
    version = min(required_version(request), _MAX_VERSION)
    found = await review_of(request, decision_id, caller.originator_id)
    if found.version != version:
        raise Problem(ProblemType.PRECONDITION_FAILED)
    signature = None if body.proof is None else signature_of(caller, body.proof)
    gate: Runtime = request.app.state.gate
    async with gate.admin_engine.connect() as connection:
        review = await work.resolve(
            connection,
            found,
            body.resolution,
            reason=body.reason,
            holder=_holder(caller),
            signature=signature,
            nonce=body.nonce,
            change=change_of(request, caller),
        )
    if review.state is ReviewState.PROPOSED:
        response.status_code = 202
    else:
        _count(review)
    return _shown(response, review)


@router.post(
    f"{_ONE}/approval",
    summary="Accept what another proposed",
    response_model=ReviewDocument,
    responses={**_TAGGED, **_GUARDED},
    openapi_extra=_MATCHED,
)
async def approve_review(
    *, request: Request, response: Response, decision_id: DecisionId, body: ReviewApproval, caller: Reviewer
) -> ReviewDocument:
    """As a second person. It is accepted at once, or stays proposed and the answer says why."""
    version = min(required_version(request), _MAX_VERSION)
    await review_of(request, decision_id, caller.originator_id)
    gate: Runtime = request.app.state.gate
    async with gate.admin_engine.connect() as connection:
        review = await work.approve(
            connection,
            decision_id,
            version=version,
            signature=signature_of(caller, body.proof),
            digest=bytes.fromhex(body.proposal_digest),
            change=change_of(request, caller),
        )
    _count(review)
    return _shown(response, review)


@router.post(
    f"{_ONE}/decline",
    summary="Put a proposal back",
    response_model=ReviewDocument,
    responses={**_TAGGED, **_GUARDED},
    openapi_extra=_MATCHED,
)
async def decline_review(
    *, request: Request, response: Response, decision_id: DecisionId, body: ReviewDecline, caller: Reviewer
) -> ReviewDocument:
    """Into the queue again: by a second person who does not agree, or by the first one. It is not signed."""
    version = min(required_version(request), _MAX_VERSION)
    await review_of(request, decision_id, caller.originator_id)
    gate: Runtime = request.app.state.gate
    async with gate.admin_engine.connect() as connection:
        review = await work.decline(
            connection, decision_id, version=version, reason=body.reason, change=change_of(request, caller)
        )
    return _shown(response, review)


async def review_of(request: Request, decision_id: UUID, originator_id: int | None) -> Review:
    """The review of a decision that the caller may see.

    Raises:
        Problem: not-found.
    """
    gate: Runtime = request.app.state.gate
    async with gate.read_engine.connect() as connection:
        found = await queue.find_review(connection, decision_id, originator_id=originator_id)
    if found is None:
        async with gate.read_engine.begin() as connection:
            await queue.gather(connection)
        async with gate.read_engine.connect() as connection:
            found = await queue.find_review(connection, decision_id, originator_id=originator_id)
    if found is None:
        raise Problem(ProblemType.NOT_FOUND, "There is nothing to review about that decision.")
    return found


def _shown(response: Response, review: Review) -> ReviewDocument:
    response.headers["ETag"] = etag(review.version)
    return ReviewDocument.of(review, datetime.now(UTC))


def _holder(caller: Principal) -> str:
    """Two credentials of one person are one reviewer."""
    return caller.person_id or caller.subject


def _lease(body: ClaimRequest | None) -> timedelta:
    return work.LEASE if body is None else timedelta(minutes=body.lease_minutes)


def _count(review: Review) -> None:
    resolution = Resolution.ACCEPT if review.state is ReviewState.ACCEPTED else Resolution.REJECT
    if review.resolved_at is not None:
        metrics.record_review(resolution.value, (review.resolved_at - review.opened_at).total_seconds())


def _place(cursor: str | None) -> Place | None:
    key = text_of(cursor)
    if key is None:
        return None
    try:
        due_at, _, decision_id = key.partition(" ")
        place = Place(due_at=datetime.fromisoformat(due_at), decision_id=UUID(decision_id))
        if place.due_at.tzinfo is not None:
            return place
    except ValueError:
        pass
    fault = FieldError(pointer="#/query/cursor", detail="is not a cursor of this listing")
    raise Problem(ProblemType.INVALID_REQUEST, errors=[fault])


def change_of(request: Request, caller: Principal) -> Change:
    """Who asks for a change."""
    return Change(actor=caller.subject, request_id=request_context(request.scope).request_id)
