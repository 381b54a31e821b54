"""What originators are told, in the form in which they fetch it, and what became of the webhooks.

A caller of an originator reads its own originator's events and those for all. An analyst or admin without an originator
reads everybody's.
"""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request

from app.api.auth import originator_of, require
from app.api.cursors import text_of, to_cursor
from app.api.problems import FieldError, Problem, ProblemType, problem_responses
from app.api.request_context import request_context
from app.api.runtime import Runtime
from app.api.schemas.events import DeliveryDocument, DeliveryLog, EventDocument, EventPage, EventQuery, Redelivery
from app.db.changes import Change
from app.events import outbox
from app.events.deliveries import deliveries_of, redeliver
from app.identities.principal import OriginatorId, Principal, Role

_ATTEMPTS_SHOWN = 20

Reader = Annotated[Principal, Depends(require(Role.ORIGINATION, Role.OUTCOMES, Role.ANALYST, Role.ADMIN))]
Sender = Annotated[Principal, Depends(require(Role.ORIGINATION, Role.ADMIN))]
EventId = Annotated[UUID, Path(description="`id` of the event, and `webhook-id` of its deliveries.")]

router = APIRouter(prefix="/v1/events", tags=["events"])


def own_originator(caller: Principal) -> OriginatorId | None:
    """Whose events the caller may see; None: everybody's.

    Raises:
        Problem: forbidden, where the role counts for an originator only and the credential has none.
    """
    if caller.originator_id is None and caller.has_any((Role.ANALYST, Role.ADMIN)):
        return None
    return originator_of(caller)


@router.get("", summary="Follow the events", response_model=EventPage, responses=problem_responses())
async def follow_events(request: Request, query: Annotated[EventQuery, Query()], caller: Reader) -> EventPage:
    """The events after a cursor. An event that is committed late is never behind a cursor that was given out: an event
    shows as soon as no older transaction of the database is under way.
    """
    gate: Runtime = request.app.state.gate
    after = _cursor(query.after)
    async with gate.read_engine.connect() as connection:
        found = await outbox.read_events(
            connection, originator_id=own_originator(caller), after=after, limit=query.limit
        )
    last = found[-1].cursor if found else None
    return EventPage(
        items=tuple(EventDocument.of(each) for each in found),
        next_cursor=query.after if last is None else to_cursor(f"{last.transaction_id}.{last.position}"),
    )


@router.get(
    "/{event_id}",
    summary="One event",
    response_model=EventDocument,
    responses=problem_responses(ProblemType.NOT_FOUND),
)
async def read_event(request: Request, event_id: EventId, caller: Reader) -> EventDocument:
    """As its webhooks carry it."""
    return EventDocument.of(await _event(request, event_id, caller))


@router.get(
    "/{event_id}/deliveries",
    summary="What became of an event",
    response_model=DeliveryLog,
    responses=problem_responses(ProblemType.NOT_FOUND),
)
async def read_deliveries(request: Request, event_id: EventId, caller: Reader) -> DeliveryLog:
    """The delivery log of the event: each webhook with its latest attempts. Where it was subscribed, nothing yet."""
    gate: Runtime = request.app.state.gate
    await _event(request, event_id, caller)
    async with gate.read_engine.connect() as connection:
        found = await deliveries_of(
            connection, event_id, originator_id=own_originator(caller), attempt_limit=_ATTEMPTS_SHOWN
        )
    return DeliveryLog(items=tuple(DeliveryDocument.of(each) for each in found))


@router.post(
    "/{event_id}/redeliver",
    summary="Send an event again",
    status_code=202,
    response_model=Redelivery,
    responses=problem_responses(ProblemType.NOT_FOUND, ProblemType.CONFLICT),
)
async def redeliver_event(request: Request, event_id: EventId, caller: Sender) -> Redelivery:
    """To every enabled webhook of the caller's originator that takes its kind (of an admin without one: of everybody),
    under the same id. It waits for no other event of its subject.
    """
    gate: Runtime = request.app.state.gate
    change = Change(actor=caller.subject, request_id=request_context(request.scope).request_id)
    async with gate.admin_engine.connect() as connection:
        count = await redeliver(connection, event_id, originator_id=own_originator(caller), change=change)
    return Redelivery(webhooks=count)


async def _event(request: Request, event_id: UUID, caller: Principal) -> outbox.Event:
    gate: Runtime = request.app.state.gate
    async with gate.read_engine.connect() as connection:
        found = await outbox.find_event(connection, event_id, originator_id=own_originator(caller))
    if found is None:
        raise Problem(ProblemType.NOT_FOUND, "There is no such event.")
    return found


def _cursor(after: str | None) -> outbox.Cursor | None:
    try:
        key = text_of(after)
        if key is None:
            return None
        transaction_id, _, position = key.partition(".")
        if all(each.isascii() and each.isdigit() and len(each) <= 18 for each in (transaction_id, position)):
            return outbox.Cursor(transaction_id=int(transaction_id), position=int(position))
    except Problem:
        pass
    fault = FieldError(pointer="#/query/after", detail="is not a cursor of this listing")
    raise Problem(ProblemType.INVALID_REQUEST, errors=[fault])
