"""Policies: reading versions, checking a document, publishing a whole one or one threshold."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse, Response

from app.api.auth import require
from app.api.cursors import number_of, page_of
from app.api.exact_json import ExactRoute
from app.api.negotiation import preferred_media_type
from app.api.policy_documents import (
    DOCUMENT_BODY,
    DOCUMENT_PROBLEMS,
    JSON,
    YAML,
    compiled_body,
    yaml_answer,
)
from app.api.preconditions import (
    ETAG_HEADER,
    IF_MATCH_PARAMETER,
    IF_NONE_MATCH_PARAMETER,
    etag,
    expected_version,
    is_current,
    required_version,
)
from app.api.problems import Problem, ProblemType, problem_responses
from app.api.request_context import request_context
from app.api.routes import drafts
from app.api.runtime import Runtime
from app.api.schemas.challengers import FindingDocument
from app.api.schemas.governance import DraftDocument
from app.api.schemas.policies import (
    MAX_VERSION,
    CaseResults,
    DifferenceDocument,
    PolicyBody,
    PolicyPage,
    PolicySummaryDocument,
    PolicyVersionDocument,
    PublishedPolicy,
    PublishedRollout,
    PublishQuery,
    ThresholdChange,
    ValidatedPolicy,
    VersionQuery,
    WaitQuery,
)
from app.db.changes import Change, StaleChangeError
from app.domain.cases import check_cases
from app.domain.compiler import compile_policy
from app.domain.lint import lint
from app.domain.policy_changes import differences, with_threshold
from app.governance.drafts import DraftContent
from app.governance.persons import read_rules
from app.identities.principal import Principal, Role
from app.policies.store import (
    Published,
    Rollout,
    StoredPolicy,
    active_policy,
    find_policy,
    list_policies,
    publish,
    read_rollout,
)

_PATH = "/v1/policies"
DOCUMENT_PATHS = (_PATH, f"{_PATH}/validate", f"{_PATH}/lint", f"{_PATH}/challenger", drafts.PATH)
"""Where whole documents come in."""
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.02, 0.25

READING_ROLES = (Role.ANALYST, Role.REVIEWER, Role.POLICY_AUTHOR, Role.POLICY_APPROVER, Role.ADMIN)
"""Thresholds are no business of who sends applications or outcomes."""
WRITING_ROLES = (Role.POLICY_AUTHOR, Role.ADMIN)

Reader = Annotated[Principal, Depends(require(*READING_ROLES))]
Author = Annotated[Principal, Depends(require(*WRITING_ROLES))]

PUBLISHED: dict[int | str, dict[str, Any]] = {
    200: {"description": "Published, and every live worker serves it.", "headers": ETAG_HEADER},
    202: {
        "description": "Published; `rollout.pending` lists the workers that do not serve it yet.",
        "model": PublishedPolicy,
        "headers": ETAG_HEADER,
    },
    201: {
        "description": "Where one person cannot publish: a draft, for a second person to approve.",
        "model": DraftDocument,
        "headers": ETAG_HEADER,
    },
}
_READ: dict[int | str, dict[str, Any]] = {
    200: {
        "headers": ETAG_HEADER,
        "content": {YAML: {"schema": {"type": "string"}}},
    },
    304: {"description": "The caller holds this version.", "headers": ETAG_HEADER},
    **problem_responses(ProblemType.NOT_FOUND, ProblemType.NOT_ACCEPTABLE),
}

router = APIRouter(tags=["policies"], route_class=ExactRoute)


def document_schemas() -> dict[str, Any]:
    """What the OpenAPI document needs under `components.schemas` for the body of a policy."""
    schema = PolicyBody.model_json_schema(ref_template="#/components/schemas/{model}")
    nested: dict[str, Any] = schema.pop("$defs", {})
    return {**nested, "PolicyBody": schema}


# Reading --------------------------------------------------------------------------------------------------------------


@router.get(_PATH, summary="List policy versions", response_model=PolicyPage, responses=problem_responses())
async def get_policies(request: Request, query: Annotated[VersionQuery, Query()], _: Reader) -> PolicyPage:
    """A page of versions without their documents, newest first."""
    gate: Runtime = request.app.state.gate
    async with gate.read_engine.connect() as connection:
        active = (await read_rollout(connection)).policy_version
        found = await list_policies(
            connection,
            before_version=number_of(query.cursor, MAX_VERSION),
            limit=query.limit + 1,
        )
    page, next_cursor = page_of(found, query.limit, lambda each: each.version)
    return PolicyPage(
        active_version=active,
        items=tuple(PolicySummaryDocument.of(summary) for summary in page),
        next_cursor=next_cursor,
    )


@router.get(
    f"{_PATH}/active",
    summary="The active policy",
    response_model=PolicyVersionDocument,
    responses=_READ,
    openapi_extra={"parameters": [IF_NONE_MATCH_PARAMETER]},
)
async def get_active_policy(request: Request, _: Reader) -> Response:
    """The policy that decisions are made under. Its ETag is what If-Match of a change names."""
    gate: Runtime = request.app.state.gate
    async with gate.read_engine.connect() as connection:
        stored = await active_policy(connection)
    return await _version_answer(request, stored, "No policy has been published yet.")


@router.get(
    f"{_PATH}/{{version:int}}",
    summary="One policy version",
    response_model=PolicyVersionDocument,
    responses=_READ,
    openapi_extra={"parameters": [IF_NONE_MATCH_PARAMETER]},
)
async def get_policy(request: Request, version: Annotated[int, Path(ge=1, le=MAX_VERSION)], _: Reader) -> Response:
    """A version never changes."""
    gate: Runtime = request.app.state.gate
    async with gate.read_engine.connect() as connection:
        stored = await find_policy(connection, version)
    return await _version_answer(request, stored, "There is no such version.")


# Publishing -----------------------------------------------------------------------------------------------------------


@router.post(
    f"{_PATH}/validate",
    summary="Check a policy without storing it",
    response_model=ValidatedPolicy,
    responses=problem_responses(*DOCUMENT_PROBLEMS),
    openapi_extra={"requestBody": DOCUMENT_BODY},
)
async def validate_policy(request: Request, _: Reader) -> ValidatedPolicy:
    """Compiles the document, runs its own cases and says what publishing it would change.

    A 422 lists every fault by row and column; a case that is decided otherwise than it says is one.
    """
    gate: Runtime = request.app.state.gate
    compiled = await compiled_body(request)
    async with gate.read_engine.connect() as connection:
        active = await active_policy(connection)
    found = () if active is None else differences(active.policy(), compiled.document)
    return ValidatedPolicy(
        valid=True,
        name=compiled.document.name,
        rules=len(compiled.document.rules),
        cases=CaseResults.of(compiled, ()),
        findings=tuple(FindingDocument.of(finding) for finding in await asyncio.to_thread(lint, compiled)),
        compared_with=None if active is None else active.version,
        differences=tuple(DifferenceDocument.of(difference) for difference in found),
    )


@router.post(
    _PATH,
    summary="Publish a policy",
    response_model=PublishedPolicy,
    responses={
        **PUBLISHED,
        **problem_responses(*DOCUMENT_PROBLEMS, ProblemType.CONFLICT, ProblemType.PRECONDITION_FAILED),
    },
    openapi_extra={"requestBody": DOCUMENT_BODY, "parameters": [IF_MATCH_PARAMETER]},
)
async def publish_policy(request: Request, query: Annotated[PublishQuery, Query()], caller: Author) -> Response:
    """Checks the whole document, stores it as the next version and makes it the active one.

    Where one person cannot publish, it becomes a draft instead (201). If-Match may name the version that it was written
    from. A document that is active already makes no new version, so
    a publish whose answer was lost can be repeated.
    """
    gate: Runtime = request.app.state.gate
    expected = expected_version(request)
    compiled = await compiled_body(request)
    if not await single_person(gate):
        await _require_active(gate, expected)
        content = DraftContent.of(compiled, comment=query.comment, effective_from=None)
        change = change_by(request, caller)
        async with gate.admin_engine.connect() as connection:
            return await drafts.stored_draft(connection, content, contributor=caller.person_id, change=change)
    async with gate.admin_engine.connect() as connection:
        published = await publish(
            connection,
            compiled,
            expected_active=expected,
            comment=query.comment,
            change=change_by(request, caller),
        )
    return await published_answer(gate, published, CaseResults.of(compiled, ()), query.wait)


@router.patch(
    f"{_PATH}/active/rules/{{code}}/thresholds/{{tier}}",
    summary="Change one threshold of one rule for one tier",
    response_model=PublishedPolicy,
    responses={
        **PUBLISHED,
        **problem_responses(
            ProblemType.NOT_FOUND,
            ProblemType.CONFLICT,
            ProblemType.PRECONDITION_FAILED,
            ProblemType.PRECONDITION_REQUIRED,
            ProblemType.INVALID_POLICY,
            ProblemType.BODY_TOO_LARGE,
        ),
    },
    openapi_extra={"parameters": [{**IF_MATCH_PARAMETER, "required": True}]},
)
async def change_threshold(
    *,
    request: Request,
    code: Annotated[str, Path(pattern=r"^[A-Z][A-Z0-9_]{1,31}$")],
    tier: Annotated[str, Path(pattern=r"^[a-z][a-z0-9_]{0,63}$")],
    query: Annotated[WaitQuery, Query()],
    body: ThresholdChange,
    caller: Author,
) -> Response:
    """Publishes the active policy with this one change, or makes a draft of it where one person cannot publish.

    If-Match must name the version that it was made from. The policy's own cases come along unchanged: `cases.failed`
    tells which of them are decided otherwise now.
    """
    gate: Runtime = request.app.state.gate
    expected = required_version(request)
    alone = await single_person(gate)
    value = list(body.value) if isinstance(body.value, tuple) else body.value
    async with gate.admin_engine.connect() as connection:
        base = await active_policy(connection)
        if base is None or base.version != expected:
            raise StaleChangeError("another policy version has been published since")
        policy = base.policy()
        if code not in {rule.code for rule in policy.rules} or tier not in {known.code for known in policy.tiers}:
            raise Problem(ProblemType.NOT_FOUND, "The active policy has no such rule or tier.")
        changed = with_threshold(policy, code, tier, value)
        compiled = await asyncio.to_thread(compile_policy, changed.document())
        change = change_by(request, caller)
        if not alone:
            content = DraftContent.of(compiled, comment=body.comment, effective_from=None)
            return await drafts.stored_draft(connection, content, contributor=caller.person_id, change=change)
        published = await publish(connection, compiled, expected_active=expected, comment=body.comment, change=change)
    cases = CaseResults.of(compiled, await asyncio.to_thread(check_cases, compiled))
    return await published_answer(gate, published, cases, query.wait)


async def single_person(gate: Runtime) -> bool:
    """Whether one person may publish alone: the setting can forbid it, and so can the database."""
    if not gate.settings.single_person_mode:
        return False
    async with gate.read_engine.connect() as connection:
        return (await read_rules(connection)).single_person


async def _require_active(gate: Runtime, expected: int | None) -> None:
    if expected is None:
        return
    async with gate.read_engine.connect() as connection:
        if (await read_rollout(connection)).policy_version != expected:
            raise StaleChangeError("another policy version has been published since")


def change_by(request: Request, caller: Principal) -> Change:
    """The change that the caller asks for, for the audit log."""
    return Change(actor=caller.subject, request_id=request_context(request.scope).request_id)


async def published_answer(gate: Runtime, published: Published, cases: CaseResults, wait_seconds: float) -> Response:
    """The answer to what one person has published: 200 once every live worker serves it, else 202."""
    rollout = await _rolled_out(gate, published.revision, wait_seconds)
    answer = PublishedPolicy(
        version=published.version,
        mode="single-person",
        changed=published.changed,
        based_on=published.based_on,
        differences=tuple(DifferenceDocument.of(difference) for difference in published.differences),
        cases=cases,
        rollout=PublishedRollout.of(rollout),
    )
    headers = {"ETag": etag(published.version), "Location": f"{_PATH}/{published.version}"}
    return JSONResponse(answer.model_dump(mode="json"), status_code=202 if rollout.pending else 200, headers=headers)


async def _rolled_out(gate: Runtime, revision: int, wait_seconds: float) -> Rollout:
    """Who serves the revision, as soon as all live workers do or the time is over."""
    deadline = time.monotonic() + wait_seconds
    pause_seconds = _FIRST_PAUSE_SECONDS
    while True:
        async with gate.read_engine.connect() as connection:
            rollout = await read_rollout(connection, revision)
        left_seconds = deadline - time.monotonic()
        if not rollout.pending or left_seconds <= 0:
            return rollout
        await asyncio.sleep(min(pause_seconds, left_seconds))
        pause_seconds = min(pause_seconds * 1.5, _LONGEST_PAUSE_SECONDS)


async def _version_answer(request: Request, stored: StoredPolicy | None, absent: str) -> Response:
    if stored is None:
        raise Problem(ProblemType.NOT_FOUND, absent)
    if preferred_media_type(request.headers.get("accept"), (JSON, YAML)) == YAML:
        return await yaml_answer(stored)
    headers = {"ETag": etag(stored.version), "Cache-Control": "private, no-cache", "Vary": "Accept"}
    if is_current(request, stored.version):
        return Response(status_code=304, headers=headers)
    document = PolicyVersionDocument.of(stored).model_dump_json()
    return Response(document, media_type="application/json", headers=headers)
