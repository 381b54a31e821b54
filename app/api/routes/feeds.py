"""How far feeds of performance are complete, and what channels cost."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request

from app.api.auth import originator_of, require
from app.api.cursors import number_of, page_of
from app.api.problems import ProblemType, problem_responses
from app.api.routes.events import own_originator
from app.api.runtime import Runtime
from app.api.schemas.common import Code
from app.api.schemas.outcomes import (
    CostAnswer,
    CostDocument,
    CostPage,
    CostQuery,
    CostRequest,
    FeedDocument,
    FeedList,
    FeedStatement,
)
from app.db.changes import UnknownSubjectError
from app.identities.principal import Principal, Role
from app.outcomes.costs import list_costs, record_cost
from app.outcomes.feeds import list_feeds, state_feed
from app.outcomes.life import find_channel

Reporter = Annotated[Principal, Depends(require(Role.OUTCOMES))]
Recorder = Annotated[Principal, Depends(require(Role.OUTCOMES, Role.ADMIN))]
Reader = Annotated[Principal, Depends(require(Role.OUTCOMES, Role.ANALYST, Role.ADMIN))]

router = APIRouter(prefix="/v1", tags=["outcomes"])


@router.get("/feeds", summary="List feeds", response_model=FeedList, responses=problem_responses())
async def get_feeds(request: Request, caller: Reader) -> FeedList:
    """How far each feed says that its performance is complete, and which are late."""
    gate: Runtime = request.app.state.gate
    async with gate.read_engine.connect() as connection:
        found = await list_feeds(connection, originator_id=own_originator(caller) if caller.originator_id else None)
    return FeedList(items=tuple(FeedDocument.of(feed, gate.now().date()) for feed in found))


@router.put(
    "/feeds/{feed}",
    summary="State how far a feed is complete",
    response_model=FeedDocument,
    responses=problem_responses(ProblemType.NOT_FOUND, ProblemType.BODY_TOO_LARGE),
)
async def put_feed(
    request: Request, feed: Annotated[Code, Path()], body: FeedStatement, caller: Reporter
) -> FeedDocument:
    """Everything that is known of performance to the end of that day has been sent. Later statements take its place;
    all of them are kept.
    """
    gate: Runtime = request.app.state.gate
    originator_id = originator_of(caller)
    async with gate.read_engine.begin() as connection:
        await state_feed(
            connection,
            originator_id=originator_id,
            feed=feed,
            channels=body.channels,
            complete_through=body.performance_complete_through,
            by=caller.subject,
        )
        found = await list_feeds(connection, originator_id=originator_id)
    return FeedDocument.of(next(each for each in found if each.code == feed), gate.now().date())


@router.post(
    "/channels/{code}/costs",
    summary="Record a cost of a channel",
    response_model=CostAnswer,
    responses=problem_responses(ProblemType.NOT_FOUND, ProblemType.CONFLICT, ProblemType.BODY_TOO_LARGE),
)
async def post_cost(request: Request, code: Code, body: CostRequest, caller: Recorder) -> CostAnswer:
    """What was spent on media or operations over a period. Another amount for the same cost takes a `correction`."""
    gate: Runtime = request.app.state.gate
    async with gate.read_engine.begin() as connection:
        return CostAnswer(recorded=await record_cost(connection, code, body.cost(), by=caller.subject))


@router.get(
    "/channels/{code}/costs",
    summary="The costs of a channel",
    response_model=CostPage,
    responses=problem_responses(ProblemType.NOT_FOUND),
)
async def get_costs(request: Request, code: Code, query: Annotated[CostQuery, Query()], _: Reader) -> CostPage:
    """Those that count, in the order in which they were recorded."""
    gate: Runtime = request.app.state.gate
    async with gate.read_engine.connect() as connection:
        if await find_channel(connection, code) is None:
            raise UnknownSubjectError("no channel has this code")
        found = await list_costs(
            connection,
            code,
            begin=query.from_,
            end=query.to,
            after=number_of(query.cursor) or 0,
            limit=query.limit + 1,
        )
    page, next_cursor = page_of(found, query.limit, lambda each: each.cost_id)
    return CostPage(items=tuple(CostDocument.of(each) for each in page), next_cursor=next_cursor)
