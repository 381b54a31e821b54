"""What became of applications: reported, listed, and shown as the life of one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response
from pydantic import TypeAdapter, ValidationError

from app.api.auth import originator_of, require
from app.api.cursors import number_of, page_of
from app.api.error_map import invalid_request
from app.api.outcome_stream import OutcomeStream, book, event_problem
from app.api.problems import FieldError, Problem, ProblemType, problem_responses
from app.api.request_context import request_context
from app.api.routes.decide import NDJSON, WhileReading
from app.api.routes.events import own_originator
from app.api.runtime import Runtime
from app.api.schemas.common import Code
from app.api.schemas.outcomes import (
    ApplicationDocument,
    ApplicationId,
    BookedDocument,
    BookedList,
    ContradictionQuery,
    OutcomeDocument,
    OutcomePage,
    OutcomeQuery,
)
from app.api.security_headers import check_media_type
from app.identities.principal import OriginatorId, Principal, Role
from app.outcomes.life import find_originator, life_of
from app.outcomes.payload import EVENT, EventError, OutcomeEvent, row_of
from app.outcomes.store import MAX_EVENTS, Outcome, contradictions, waiting

PATH = "/v1/outcomes"
EVENT_SCHEMA = {"$ref": "#/components/schemas/OutcomeEvent"}
_EVENT = {"application_id": "A-2026-000001", "kind": "funded", "occurred_on": "2026-11-02", "amount": 5000000}
_BOOKED = {"result": "accepted", "application_status": "funded", "flags": []}
_JSON = "application/json"
_EVENTS: TypeAdapter[list[OutcomeEvent]] = TypeAdapter(list[OutcomeEvent])

Reporter = Annotated[Principal, Depends(require(Role.OUTCOMES))]
Reader = Annotated[Principal, Depends(require(Role.OUTCOMES, Role.ORIGINATION, Role.ANALYST, Role.ADMIN))]

router = APIRouter(tags=["outcomes"])


def event_schemas() -> dict[str, Any]:
    """What the OpenAPI document needs under `components.schemas` for an event."""
    return {"OutcomeEvent": EVENT.json_schema(ref_template="#/components/schemas/{model}")}


@router.post(
    PATH,
    summary="Report what became of applications",
    response_model=BookedList,
    responses={
        200: {
            "description": "What became of each event, in order; lines for lines.",
            "content": {
                _JSON: {"examples": {"accepted": {"value": {"results": [_BOOKED]}}}},
                NDJSON: {
                    "schema": {"type": "string"},
                    "example": orjson.dumps({"line": 1, "status": 200, "outcome": _BOOKED}).decode() + "\n",
                },
            },
        },
        **problem_responses(ProblemType.BODY_TOO_LARGE, ProblemType.UNSUPPORTED_MEDIA_TYPE),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                _JSON: {
                    "schema": {
                        "anyOf": [
                            EVENT_SCHEMA,
                            {"type": "array", "items": EVENT_SCHEMA, "minItems": 1, "maxItems": MAX_EVENTS},
                        ]
                    },
                    "examples": {"one": {"value": _EVENT}, "many": {"value": [_EVENT]}},
                },
                NDJSON: {"schema": {"type": "string"}, "example": orjson.dumps(_EVENT).decode() + "\n"},
            },
        }
    },
)
async def report_outcomes(request: Request, caller: Reporter) -> Response:
    """One event or a list of them as JSON, booked together or not at all; or any number as NDJSON, streamed.

    Events may come late, twice and in any order. (application, kind, reference, month on book or day, instalment) is
    the key of a fact; the highest `correction` of it counts. No fact is refused for what it says: contradictions are
    booked and flagged. `result` is accepted, repeated, superseded, waiting (for its application) or flagged.
    """
    gate: Runtime = request.app.state.gate
    originator_id = originator_of(caller)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == NDJSON:
        check_media_type(request.scope, NDJSON)
        stream = OutcomeStream(gate, caller, originator_id, request_context(request.scope).request_id)
        return WhileReading(stream.answers(request.stream()), media_type=NDJSON)
    check_media_type(request.scope, _JSON)
    body = await _bounded_body(request, gate.settings.body_limit_bytes)
    whole = body.lstrip()[:1] == b"["
    try:
        events = _EVENTS.validate_json(body) if whole else [EVENT.validate_json(body)]
    except ValidationError as error:
        raise invalid_request(error) from None
    if not 1 <= len(events) <= MAX_EVENTS:
        detail = f"must hold between 1 and {MAX_EVENTS} events"
        raise Problem(ProblemType.INVALID_REQUEST, errors=[FieldError(pointer="", detail=detail)])
    rows = []
    for place, event in enumerate(events):
        try:
            rows.append(row_of(event))
        except EventError as error:
            raise event_problem(error, f"/{place}" if whole else "") from None
    booked = await book(gate, originator_id, caller, rows)
    document = BookedList(results=tuple(BookedDocument.of(each) for each in booked))
    return Response(document.model_dump_json(), media_type=_JSON)


@router.get(
    f"{PATH}/waiting",
    summary="Applications that facts wait for",
    response_model=OutcomePage,
    responses=problem_responses(),
)
async def list_waiting(request: Request, query: Annotated[OutcomeQuery, Query()], caller: Reader) -> OutcomePage:
    """Facts were reported of them and no decision on them is known. They take effect within seconds of it."""
    gate: Runtime = request.app.state.gate
    async with gate.read_engine.connect() as connection:
        found = await waiting(
            connection, originator_id=own_originator(caller), after=number_of(query.cursor), limit=query.limit + 1
        )
    return _page(found, query.limit)


@router.get(
    f"{PATH}/contradictions",
    summary="Applications whose facts contradict each other",
    response_model=OutcomePage,
    responses=problem_responses(),
)
async def list_contradictions(
    request: Request, query: Annotated[ContradictionQuery, Query()], caller: Reader
) -> OutcomePage:
    """Everything that was reported is booked; who reports corrects it with a higher `correction`, or retracts it."""
    gate: Runtime = request.app.state.gate
    async with gate.read_engine.connect() as connection:
        found = await contradictions(
            connection,
            originator_id=own_originator(caller),
            flag=None if query.flag is None else query.flag.value,
            after=number_of(query.cursor),
            limit=query.limit + 1,
        )
    return _page(found, query.limit)


@router.get(
    "/v1/applications/{application_id:path}",
    summary="The life of an application",
    response_model=ApplicationDocument,
    responses=problem_responses(ProblemType.NOT_FOUND),
)
async def read_application(
    request: Request,
    application_id: Annotated[ApplicationId, Path()],
    caller: Reader,
    originator: Annotated[
        Code | None, Query(description="Whose application; needed where the caller belongs to no originator.")
    ] = None,
) -> ApplicationDocument:
    """Everything that happened to it, in order: the decision on each revision, what became of its reservation, and
    every version of every reported fact, with where it stands now.
    """
    gate: Runtime = request.app.state.gate
    async with gate.read_engine.connect() as connection:
        owner = own_originator(caller)
        if owner is None:
            if originator is None:
                fault = FieldError(pointer="#/query/originator", detail="is needed where the caller has no originator")
                raise Problem(ProblemType.INVALID_REQUEST, errors=[fault])
            number = await find_originator(connection, originator)
            owner = None if number is None else OriginatorId(number)
        found = None
        if owner is not None:
            found = await life_of(connection, originator_id=owner, application_id=application_id)
    if found is None:
        raise Problem(ProblemType.NOT_FOUND, "There is no such application.")
    return ApplicationDocument.of(found)


def _page(found: Sequence[Outcome], limit: int) -> OutcomePage:
    page, next_cursor = page_of(found, limit, lambda each: each.subject_id)
    return OutcomePage(items=tuple(OutcomeDocument.of(each) for each in page), next_cursor=next_cursor)


async def _bounded_body(request: Request, limit_bytes: int) -> bytes:
    """The body; the stream of lines on the same path has no limit as a whole, so the path cannot have one."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit_bytes:
            raise Problem(ProblemType.BODY_TOO_LARGE, f"A list of events may have at most {limit_bytes} bytes.")
    return body
