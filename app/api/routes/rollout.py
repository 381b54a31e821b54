"""Which worker serves what."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from app.api.auth import require
from app.api.problems import problem_responses
from app.api.runtime import Runtime
from app.api.schemas.policies import RolloutDocument
from app.identities.principal import Principal
from app.policies.store import read_rollout

router = APIRouter(tags=["operations"])


@router.get(
    "/v1/rollout", summary="Which worker serves what", response_model=RolloutDocument, responses=problem_responses()
)
async def get_rollout(request: Request, _: Annotated[Principal, Depends(require())]) -> RolloutDocument:
    """The workers whose lease has not run out, and whether each has read the newest revision."""
    gate: Runtime = request.app.state.gate
    async with gate.read_engine.connect() as connection:
        return RolloutDocument.of(await read_rollout(connection))
