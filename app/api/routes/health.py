"""Whether the worker lives, whether it can decide, and its metrics."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.api.problems import Problem, ProblemType, problem_responses
from app.api.runtime import Runtime
from app.observability import metrics

router = APIRouter(tags=["operations"])


@router.get("/livez", summary="Is the process alive?")
async def livez() -> dict[str, str]:
    """Answers while the event loop turns; the database has no part in it."""
    return {"status": "alive"}


@router.get(
    "/readyz", summary="Can this worker decide?", responses={503: problem_responses(ProblemType.NOT_READY)[503]}
)
async def readyz(request: Request) -> dict[str, str | int]:
    """Ready with a policy, a snapshot within its lease, and a connection to the log.

    A 503 says which of them is missing; for the log, with the SQLSTATE or kind of error of the last attempt.
    """
    gate: Runtime = request.app.state.gate
    snapshot = gate.keeper.current()
    if not gate.writer.available:
        cause = gate.writer.not_connected
        detail = "The decision log is away." if cause is None else f"The decision log is away: {cause}."
        raise Problem(ProblemType.NOT_READY, detail, retry_after_seconds=1)
    assert snapshot.policy_version is not None
    return {"status": "ready", "policy_version": snapshot.policy_version, "snapshot_revision": snapshot.revision}


@router.get(
    "/metrics",
    summary="Prometheus metrics of all workers of this service",
    response_class=Response,
    responses={200: {"content": {metrics.CONTENT_TYPE: {"schema": {"type": "string"}}}}},
)
async def exposition() -> Response:
    """Rendered off the event loop: it takes milliseconds, and decisions should not wait for it."""
    return Response(await asyncio.to_thread(metrics.render), headers={"Content-Type": metrics.CONTENT_TYPE})
