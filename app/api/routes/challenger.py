"""The challenger (a policy evaluated beside the active one, without effect), and lint."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from app.api.policy_documents import DOCUMENT_BODY, DOCUMENT_PROBLEMS, compiled_body
from app.api.problems import Problem, ProblemType, problem_responses
from app.api.routes.policies import Author, Reader, change_by
from app.api.runtime import Runtime
from app.api.schemas.challengers import (
    ChallengerDocument,
    ChallengerQuery,
    ChallengerReport,
    CommentQuery,
    LintQuery,
    LintReport,
    ReportQuery,
)
from app.domain.compiler import compile_policy
from app.domain.lint import lint
from app.journal.usage import field_usage
from app.policies.challenger import (
    FULL_SAMPLE_PPM,
    clear_challenger,
    latest_challenger,
    set_challenger,
    shadow_report,
)

PATH, LINT_PATH = "/v1/policies/challenger", "/v1/policies/lint"

router = APIRouter(tags=["policies"])


@router.post(
    LINT_PATH,
    summary="Lint a policy",
    response_model=LintReport,
    responses=problem_responses(*DOCUMENT_PROBLEMS),
    openapi_extra={"requestBody": DOCUMENT_BODY},
)
async def lint_policy(request: Request, query: Annotated[LintQuery, Query()], _: Reader) -> LintReport:
    """Rules that never act, that others make useless, tiers out of order, caps out of reach.

    The document must compile; its cases are not run.
    """
    gate: Runtime = request.app.state.gate
    compiled = await compiled_body(request, check=compile_policy)
    usage = None
    if query.against_log:
        async with gate.read_engine.connect() as connection:
            usage = await field_usage(connection)
    findings = await asyncio.to_thread(lint, compiled, carried=usage)
    return LintReport.of(findings, usage)


@router.get(
    PATH,
    summary="What the challenger would have decided",
    response_model=ChallengerReport,
    responses=problem_responses(ProblemType.NOT_FOUND),
)
async def get_challenger(request: Request, query: Annotated[ReportQuery, Query()], _: Reader) -> ChallengerReport:
    """Agreement and flips by channel and tier, reasons that came and went. Of the last one, where none is set."""
    gate: Runtime = request.app.state.gate
    async with gate.read_engine.connect() as connection:
        challenger = await latest_challenger(connection)
        if challenger is None:
            raise Problem(ProblemType.NOT_FOUND, "No challenger has been set yet.")
        report = await shadow_report(connection, challenger.number, since=query.since, until=query.until)
    return ChallengerReport.of(challenger, report)


@router.put(
    PATH,
    summary="Set the challenger",
    response_model=ChallengerDocument,
    responses={
        200: {"description": "It was the challenger already."},
        201: {"description": "It is the challenger now.", "model": ChallengerDocument},
        **problem_responses(*DOCUMENT_PROBLEMS),
    },
    openapi_extra={"requestBody": DOCUMENT_BODY},
)
async def put_challenger(request: Request, query: Annotated[ChallengerQuery, Query()], caller: Author) -> Response:
    """Checks the document and evaluates it beside the active policy, in place of the challenger before.

    It changes no answer. The same document at the same rate changes nothing.
    """
    gate: Runtime = request.app.state.gate
    compiled = await compiled_body(request)
    async with gate.admin_engine.connect() as connection:
        challenger, changed = await set_challenger(
            connection,
            compiled,
            sample_ppm=max(1, round(query.sample * FULL_SAMPLE_PPM)),
            comment=query.comment,
            change=change_by(request, caller),
        )
    document = ChallengerDocument.of(challenger).model_dump(mode="json")
    return JSONResponse(document, status_code=201 if changed else 200, headers={"Location": PATH})


@router.delete(
    PATH,
    summary="Clear the challenger",
    status_code=204,
    responses=problem_responses(ProblemType.NOT_FOUND),
)
async def delete_challenger(request: Request, query: Annotated[CommentQuery, Query()], caller: Author) -> Response:
    """Evaluates it no more. Its report stays."""
    gate: Runtime = request.app.state.gate
    async with gate.admin_engine.connect() as connection:
        await clear_challenger(connection, comment=query.comment, change=change_by(request, caller))
    return Response(status_code=204)
