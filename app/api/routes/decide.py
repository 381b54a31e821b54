"""Applications in, decisions out: one at a time, or as lines."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response, StreamingResponse
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from app.api.auth import originator_of, require
from app.api.batch import BatchRun
from app.api.decision_route import DECIDING_ROLES, MEDIA_TYPE, PATH, REPLAYED_HEADER
from app.api.examples import APPLICATION
from app.api.problems import ProblemType, problem_responses
from app.api.request_context import request_context
from app.api.runtime import Runtime
from app.api.schemas.decision_examples import ACCEPTED
from app.api.schemas.decisions import DecisionDocument
from app.api.security_headers import check_media_type
from app.identities.principal import Principal
from app.screening.payload import PAYLOAD

BATCH_PATH = f"{PATH}/batch"
NDJSON = "application/x-ndjson"
PAYLOAD_SCHEMA = {"$ref": "#/components/schemas/ApplicationPayload"}
_LINE = orjson.dumps(APPLICATION).decode() + "\n"
_ANSWER_LINE = orjson.dumps({"line": 1, "status": 200, "decision": ACCEPTED}).decode() + "\n"

_PROBLEMS = (
    ProblemType.APPLICATION_CONFLICT,
    ProblemType.REVISION_SUPERSEDED,
    ProblemType.BODY_TOO_LARGE,
    ProblemType.UNSUPPORTED_MEDIA_TYPE,
    ProblemType.UNKNOWN_CHANNEL,
    ProblemType.CONSENT_MISSING,
    ProblemType.UNSTORABLE,
    ProblemType.LOG_UNAVAILABLE,
    ProblemType.OVERLOADED,
    ProblemType.NOT_READY,
)
_Caller = Annotated[Principal, Depends(require(*DECIDING_ROLES))]

router = APIRouter(tags=["decisions"])


def payload_schemas() -> dict[str, Any]:
    """What the OpenAPI document needs under `components.schemas` for the request."""
    schema = PAYLOAD.json_schema(ref_template="#/components/schemas/{model}")
    nested: dict[str, Any] = schema.pop("$defs", {})
    return {**nested, "ApplicationPayload": schema}


@router.post(
    PATH,
    summary="Decide an application",
    response_model=DecisionDocument,
    responses={
        200: {
            "description": "The durable decision. The same request again gets the same bytes, and says so.",
            "content": {"application/json": {"examples": {"accepted": {"value": ACCEPTED}}}},
            "headers": {
                "Idempotent-Replayed": {
                    "description": "`true` where an earlier request had made this decision.",
                    "schema": {"type": "string", "enum": ["true"]},
                }
            },
        },
        **problem_responses(*_PROBLEMS),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": PAYLOAD_SCHEMA, "examples": {"typical": {"value": APPLICATION}}}
            },
        }
    },
)
async def decide(request: Request, caller: _Caller) -> Response:
    """Screens the application under its channel's tier and answers once the decision is in the log.

    (originator, `application_id`, `revision`) is the key: the same request again returns the stored bytes, another body
    under the same key is a 409. A 503 means that nothing is known to be stored: repeat the same request.
    """
    gate: Runtime = request.app.state.gate
    check_media_type(request.scope, MEDIA_TYPE)
    answer = await gate.desk.decide(originator_of(caller), await request.body())
    headers = {REPLAYED_HEADER[0].decode(): REPLAYED_HEADER[1].decode()} if answer.replayed else None
    return Response(answer.body, media_type="application/json", headers=headers)


@router.post(
    BATCH_PATH,
    summary="Decide many applications, as lines",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "One line for each line, in order: `line`, `status`, and `decision` or `problem`.",
            "content": {NDJSON: {"schema": {"type": "string"}, "example": _ANSWER_LINE}},
        },
        **problem_responses(ProblemType.UNSUPPORTED_MEDIA_TYPE),
    },
    openapi_extra={
        "requestBody": {
            "content": {NDJSON: {"schema": {"type": "string"}, "example": _LINE}},
        }
    },
)
async def decide_batch(request: Request, caller: _Caller) -> StreamingResponse:
    """NDJSON in, NDJSON out, streamed and in order, with the same guarantees for each line as for a single request.

    A line that cannot be decided gets its problem and the others go on. Lines count against the caller's rate one by
    one: a batch that is faster is held back, not refused.
    """
    gate: Runtime = request.app.state.gate
    check_media_type(request.scope, NDJSON)
    run = BatchRun(gate, caller, originator_of(caller), request_context(request.scope).request_id)
    return WhileReading(run.answers(request.stream()), media_type=NDJSON)


class WhileReading(StreamingResponse):
    """Answers while the body is still being read: nothing but its reader may call `receive`.

    Starlette would listen there for a disconnect, and swallow the body that has not been read.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        with contextlib.suppress(ClientDisconnect):
            await self.stream_response(send)
