"""Rollback: one request brings an old version back, as a new one."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from app.api.problems import FieldError, Problem, ProblemType, problem_responses
from app.api.routes import drafts, policies
from app.api.routes.policies import Author
from app.api.runtime import Runtime
from app.api.schemas.governance import RollbackRequest
from app.api.schemas.policies import CaseResults, PublishedPolicy, WaitQuery
from app.api.signatures import signature_of
from app.domain.compiler import compile_policy
from app.governance.drafts import DraftContent, create_submitted_draft
from app.policies.store import find_policy, publish

router = APIRouter(tags=["policies"])


@router.post(
    "/v1/policies/rollbacks",
    summary="Bring a version back",
    response_model=PublishedPolicy,
    responses={
        **policies.PUBLISHED,
        **problem_responses(
            ProblemType.NOT_FOUND, ProblemType.CONFLICT, ProblemType.BODY_TOO_LARGE, ProblemType.INVALID_POLICY
        ),
    },
)
async def roll_back(
    request: Request, body: RollbackRequest, query: Annotated[WaitQuery, Query()], caller: Author
) -> Response:
    """A new version that repeats the old one, active at once.

    Where one person cannot publish, it is a draft that repeats it, signed and in review (201): a second person approves
    it as any other.
    """
    gate: Runtime = request.app.state.gate
    alone = await policies.single_person(gate)
    signature = None if alone or body.proof is None else signature_of(caller, body.proof)
    change = policies.change_by(request, caller)
    async with gate.admin_engine.connect() as connection:
        stored = await find_policy(connection, body.version)
        if stored is None:
            raise Problem(ProblemType.NOT_FOUND, "There is no such version.")
        compiled = await asyncio.to_thread(compile_policy, stored.document())
        if alone:
            published = await publish(connection, compiled, expected_active=None, comment=body.comment, change=change)
        elif signature is None or body.nonce is None:
            unsigned = FieldError(pointer="/proof", detail="is needed with a nonce, where a second person approves")
            raise Problem(ProblemType.INVALID_REQUEST, errors=[unsigned])
        else:
            findings = await drafts.lint_for_review(gate, compiled)
            draft = await create_submitted_draft(
                connection,
                DraftContent.repeating(stored, comment=body.comment, effective_from=None),
                contributor=caller.person_id,
                signature=signature,
                nonce=body.nonce,
                warnings=drafts.codes_of(findings),
                findings=map(str, findings),
                change=change,
            )
            return await drafts.created(connection, draft)
    return await policies.published_answer(gate, published, CaseResults.of(compiled, ()), query.wait)
