"""Drafts of policies: written by one person, approved by another."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from app.api.auth import require
from app.api.cursors import number_of, page_of
from app.api.policy_documents import DOCUMENT_BODY, DOCUMENT_PROBLEMS, compiled_body
from app.api.preconditions import ETAG_HEADER, IF_MATCH_PARAMETER, etag, expected_version, required_version
from app.api.problems import FieldError, Problem, ProblemType, problem_responses
from app.api.request_context import request_context
from app.api.runtime import Runtime
from app.api.schemas.governance import (
    MAX_NUMBER,
    Approval,
    Closing,
    DraftDocument,
    DraftListQuery,
    DraftPage,
    DraftQuery,
    DraftSummaryDocument,
    PageQuery,
    ReportDocument,
    ReportPage,
    Submission,
)
from app.api.signatures import signature_of
from app.db.changes import Change
from app.domain.compiled import CompiledPolicy
from app.domain.compiler import compile_policy
from app.domain.lint import lint
from app.domain.lint_findings import Finding
from app.domain.policy_changes import differences
from app.governance import drafts
from app.governance.drafts import Draft, DraftContent, DraftState
from app.governance.reports import find_report, list_reports
from app.identities.principal import Principal, Role
from app.journal.usage import field_usage
from app.policies.store import find_policy

PATH = "/v1/policies/drafts"

Reader = Annotated[
    Principal,
    Depends(require(Role.ANALYST, Role.REVIEWER, Role.POLICY_AUTHOR, Role.POLICY_APPROVER, Role.ADMIN)),
]
Author = Annotated[Principal, Depends(require(Role.POLICY_AUTHOR, Role.ADMIN))]
Approver = Annotated[Principal, Depends(require(Role.POLICY_APPROVER))]
DraftId = Annotated[int, Path(ge=1, le=MAX_NUMBER)]
ReportId = Annotated[int, Path(ge=1, le=2**53)]

_CHANGED = (
    ProblemType.NOT_FOUND,
    ProblemType.CONFLICT,
    ProblemType.PRECONDITION_FAILED,
    ProblemType.BODY_TOO_LARGE,
)
_TAGGED: dict[int | str, dict[str, Any]] = {200: {"headers": ETAG_HEADER}}

router = APIRouter(tags=["policies"])


@router.get(PATH, summary="List drafts", response_model=DraftPage, responses=problem_responses())
async def get_drafts(request: Request, query: Annotated[DraftListQuery, Query()], _: Reader) -> DraftPage:
    """A page without the documents, newest first."""
    gate: Runtime = request.app.state.gate
    async with gate.read_engine.connect() as connection:
        found = await drafts.list_drafts(
            connection,
            states=frozenset(query.state),
            before_id=number_of(query.cursor, MAX_NUMBER),
            limit=query.limit + 1,
        )
    page, next_cursor = page_of(found, query.limit, lambda each: each.draft_id)
    return DraftPage(
        items=tuple(DraftSummaryDocument.of(draft) for draft in page),
        next_cursor=next_cursor,
    )


@router.post(
    PATH,
    summary="Write a draft",
    status_code=201,
    response_model=DraftDocument,
    responses={201: {"headers": ETAG_HEADER}, **problem_responses(*DOCUMENT_PROBLEMS)},
    openapi_extra={"requestBody": DOCUMENT_BODY},
)
async def create_draft(request: Request, query: Annotated[DraftQuery, Query()], caller: Author) -> Response:
    """Checks the document as publishing does and stores it on top of the active version. Nothing else changes yet."""
    gate: Runtime = request.app.state.gate
    compiled = await compiled_body(request)
    content = DraftContent.of(compiled, comment=query.comment, effective_from=query.effective_from)
    async with gate.admin_engine.connect() as connection:
        return await stored_draft(connection, content, contributor=caller.person_id, change=_change(request, caller))


@router.get(
    f"{PATH}/{{draft_id}}",
    summary="One draft",
    response_model=DraftDocument,
    responses={**_TAGGED, **problem_responses(ProblemType.NOT_FOUND)},
)
async def get_draft(request: Request, response: Response, draft_id: DraftId, _: Reader) -> DraftDocument:
    """With its document, what it changes, and the digest and nonce that an approval signs."""
    gate: Runtime = request.app.state.gate
    async with gate.read_engine.connect() as connection:
        draft = await existing_draft(connection, draft_id)
        return await _whole(connection, response, draft)


@router.put(
    f"{PATH}/{{draft_id}}",
    summary="Give a draft another document",
    response_model=DraftDocument,
    responses={
        **_TAGGED,
        **problem_responses(*DOCUMENT_PROBLEMS, *_CHANGED, ProblemType.PRECONDITION_REQUIRED),
    },
    openapi_extra={"requestBody": DOCUMENT_BODY, "parameters": [{**IF_MATCH_PARAMETER, "required": True}]},
)
async def amend_draft(
    *,
    request: Request,
    response: Response,
    draft_id: DraftId,
    query: Annotated[DraftQuery, Query()],
    caller: Author,
) -> DraftDocument:
    """Until it is submitted. If-Match names the revision that it was read at; it is based on what is active now."""
    gate: Runtime = request.app.state.gate
    revision = min(required_version(request), MAX_NUMBER)
    compiled = await compiled_body(request)
    content = DraftContent.of(compiled, comment=query.comment, effective_from=query.effective_from)
    async with gate.admin_engine.connect() as connection:
        draft = await drafts.amend_draft(
            connection,
            draft_id,
            content,
            expected_revision=revision,
            contributor=caller.person_id,
            change=_change(request, caller),
        )
        return await _whole(connection, response, draft)


@router.post(
    f"{PATH}/{{draft_id}}/submit",
    summary="Put a draft up for review",
    response_model=DraftDocument,
    responses={**_TAGGED, **problem_responses(*_CHANGED, ProblemType.INVALID_POLICY)},
)
async def submit_draft(
    request: Request, response: Response, draft_id: DraftId, body: Submission, caller: Author
) -> DraftDocument:
    """The author signs the document. Errors of lint stand in the way; its warnings are stored for the approver."""
    gate: Runtime = request.app.state.gate
    signature = signature_of(caller, body.proof)
    async with gate.admin_engine.connect() as connection:
        draft = await existing_draft(connection, draft_id)
        findings = await lint_for_review(gate, await asyncio.to_thread(compile_policy, draft.document()))
        draft = await drafts.submit_draft(
            connection,
            draft,
            signature=signature,
            nonce=body.nonce,
            warnings=codes_of(findings),
            findings=map(str, findings),
            change=_change(request, caller),
        )
        return await _whole(connection, response, draft)


@router.post(
    f"{PATH}/{{draft_id}}/approve",
    summary="Approve a draft",
    response_model=DraftDocument,
    responses={**_TAGGED, **problem_responses(*_CHANGED)},
)
async def approve_draft(
    request: Request, response: Response, draft_id: DraftId, body: Approval, caller: Approver
) -> DraftDocument:
    """A second person signs the document, the report and the warnings. Active at once, or at `effective_from`.

    Who wrote it gets a 403; another document than the one named, or a policy that has changed since, a 412.
    """
    gate: Runtime = request.app.state.gate
    signature = signature_of(caller, body.proof)
    report = None if body.report_digest is None else bytes.fromhex(body.report_digest)
    async with gate.admin_engine.connect() as connection:
        draft = await drafts.approve_draft(
            connection,
            draft_id,
            signature=signature,
            document_digest=bytes.fromhex(body.document_digest),
            report_digest=report,
            acknowledged=body.acknowledged_warnings,
            comment=body.comment,
            change=_change(request, caller),
        )
        return await _whole(connection, response, draft)


@router.post(
    f"{PATH}/{{draft_id}}/reject",
    summary="Reject a draft",
    response_model=DraftDocument,
    responses={**_TAGGED, **problem_responses(*_CHANGED)},
    openapi_extra={"parameters": [IF_MATCH_PARAMETER]},
)
async def reject_draft(
    request: Request, response: Response, draft_id: DraftId, body: Closing, caller: Approver
) -> DraftDocument:
    """Ends a draft that is in review. It lets nothing through, so it is not signed."""
    return await _closed(request, response, draft_id, DraftState.REJECTED, body=body, caller=caller)


@router.post(
    f"{PATH}/{{draft_id}}/withdraw",
    summary="Withdraw a draft",
    response_model=DraftDocument,
    responses={**_TAGGED, **problem_responses(*_CHANGED)},
    openapi_extra={"parameters": [IF_MATCH_PARAMETER]},
)
async def withdraw_draft(
    request: Request, response: Response, draft_id: DraftId, body: Closing, caller: Author
) -> DraftDocument:
    """Ends a draft that is not active yet, an approved one that waits for its time as well."""
    return await _closed(request, response, draft_id, DraftState.WITHDRAWN, body=body, caller=caller)


@router.get(
    f"{PATH}/{{draft_id}}/reports",
    summary="What-if reports on a draft",
    response_model=ReportPage,
    responses=problem_responses(ProblemType.NOT_FOUND),
)
async def get_reports(
    request: Request, draft_id: DraftId, query: Annotated[PageQuery, Query()], _: Reader
) -> ReportPage:
    """A page without their texts, newest first; those on an earlier document of the draft are among them."""
    gate: Runtime = request.app.state.gate
    async with gate.read_engine.connect() as connection:
        await existing_draft(connection, draft_id)
        found = await list_reports(
            connection,
            draft_id,
            before_id=number_of(query.cursor, MAX_NUMBER),
            limit=query.limit + 1,
        )
    page, next_cursor = page_of(found, query.limit, lambda each: each.report_id)
    return ReportPage(
        items=tuple(ReportDocument.of(report) for report in page),
        next_cursor=next_cursor,
    )


@router.get(
    f"{PATH}/{{draft_id}}/reports/{{report_id}}",
    summary="One what-if report",
    response_model=ReportDocument,
    responses=problem_responses(ProblemType.NOT_FOUND),
)
async def get_report(request: Request, draft_id: DraftId, report_id: ReportId, _: Reader) -> ReportDocument:
    """With the text whose digest an approval names."""
    gate: Runtime = request.app.state.gate
    async with gate.read_engine.connect() as connection:
        report = await find_report(connection, draft_id, report_id)
    if report is None:
        raise Problem(ProblemType.NOT_FOUND, "The draft has no such report.")
    return ReportDocument.of(report)


async def stored_draft(
    connection: AsyncConnection, content: DraftContent, *, contributor: str | None, change: Change
) -> Response:
    """The answer to a document that has become a draft."""
    return await created(
        connection, await drafts.create_draft(connection, content, contributor=contributor, change=change)
    )


async def created(connection: AsyncConnection, draft: Draft) -> Response:
    """The answer to what has become a draft."""
    response = Response()
    document = await _whole(connection, response, draft)
    headers = {"ETag": etag(draft.revision), "Location": f"{PATH}/{draft.draft_id}"}
    return JSONResponse(document.model_dump(mode="json"), status_code=201, headers=headers)


async def _closed(
    request: Request, response: Response, draft_id: int, state: DraftState, *, body: Closing, caller: Principal
) -> DraftDocument:
    gate: Runtime = request.app.state.gate
    expected = expected_version(request)
    async with gate.admin_engine.connect() as connection:
        draft = await drafts.close_draft(
            connection,
            draft_id,
            state,
            note=body.reason,
            expected_revision=None if expected is None else min(expected, MAX_NUMBER),
            change=_change(request, caller),
        )
        return await _whole(connection, response, draft)


async def lint_for_review(gate: Runtime, compiled: CompiledPolicy) -> tuple[Finding, ...]:
    """What lint warns of, with the applications of the last 30 days before it.

    Raises:
        Problem: invalid-policy, with every error of lint.
    """
    async with gate.read_engine.connect() as connection:
        usage = await field_usage(connection)
    findings = await asyncio.to_thread(lint, compiled, carried=usage)
    errors = [
        FieldError(pointer="", detail=f"{found.code}: {found.detail}", row=found.row, column=found.column)
        for found in findings
        if found.severity == "error"
    ]
    if errors:
        raise Problem(ProblemType.INVALID_POLICY, errors=errors)
    return tuple(findings)


def codes_of(findings: Iterable[Finding]) -> frozenset[str]:
    """The codes that an approval acknowledges."""
    return frozenset(found.code.value for found in findings)


async def existing_draft(connection: AsyncConnection, draft_id: int) -> Draft:
    """The draft.

    Raises:
        Problem: not-found.
    """
    draft = await drafts.find_draft(connection, draft_id)
    if draft is None:
        raise Problem(ProblemType.NOT_FOUND, "There is no such draft.")
    return draft


async def _whole(connection: AsyncConnection, response: Response, draft: Draft) -> DraftDocument:
    base = None if draft.based_on is None else await find_policy(connection, draft.based_on)
    response.headers["ETag"] = etag(draft.revision)
    return DraftDocument.whole(draft, () if base is None else differences(base.policy(), draft.policy()))


def _change(request: Request, caller: Principal) -> Change:
    return Change(actor=caller.subject, request_id=request_context(request.scope).request_id)
