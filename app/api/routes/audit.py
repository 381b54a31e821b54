"""The audit log, and the auditor's bundle of a decision."""

from __future__ import annotations

from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from sqlalchemy import select

from app.api.auth import require
from app.api.cursors import number_of, page_of
from app.api.problems import Problem, ProblemType, problem_responses
from app.api.routes.decisions import DecisionId
from app.api.runtime import Runtime
from app.api.schemas.audit import AuditPage, AuditQuery, AuditRow, DecisionBundle
from app.db.tables import audit_log
from app.identities.principal import Principal, Role
from app.screening.bundle import decision_bundle

Auditor = Annotated[Principal, Depends(require(Role.ANALYST, Role.ADMIN))]

router = APIRouter(tags=["audit"])


@router.get("/v1/audit", summary="The log of admin changes", response_model=AuditPage, responses=problem_responses())
async def get_audit(request: Request, query: Annotated[AuditQuery, Query()], _: Auditor) -> AuditPage:
    """Who changed what, from what to what, why, and by which request. Oldest first; each row's hash covers the one
    before, and `channel-gate audit verify` walks them all.
    """
    gate: Runtime = request.app.state.gate
    after = max(query.after, number_of(query.cursor) or 0)
    wanted = select(audit_log).where(audit_log.c.sequence > after).order_by(audit_log.c.sequence)
    async with gate.admin_engine.connect() as connection:
        found = (await connection.execute(wanted.limit(query.limit + 1))).all()
    page, next_cursor = page_of(found, query.limit, lambda each: each.sequence)
    return AuditPage(
        items=tuple(AuditRow.of(row) for row in page),
        next_cursor=next_cursor,
    )


@router.get(
    "/v1/decisions/{decision_id:uuid}/bundle",
    summary="Everything about one decision, for an auditor",
    response_model=DecisionBundle,
    responses=problem_responses(ProblemType.NOT_FOUND),
)
async def get_bundle(request: Request, decision_id: DecisionId, caller: Auditor) -> Response:
    """Input and record, the policy and who approved it, the tier and why, the channel's states, and where the audit log
    and the day's digest vouch for them.
    """
    gate: Runtime = request.app.state.gate
    async with gate.admin_engine.connect() as connection:
        bundle = await decision_bundle(connection, decision_id, originator_id=caller.originator_id)
    if bundle is None:
        raise Problem(ProblemType.NOT_FOUND)
    return Response(orjson.dumps(bundle), media_type="application/json", headers={"Vary": "Authorization"})
