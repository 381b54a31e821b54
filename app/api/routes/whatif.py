"""What-ifs on drafts: started here, run in a process of their own, seen and cancelled from any worker."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse, Response

from app.api.auth import require
from app.api.cursors import number_of, page_of
from app.api.problems import Problem, ProblemType, problem_responses
from app.api.routes import drafts
from app.api.routes.drafts import DraftId, Reader, existing_draft
from app.api.runtime import Runtime
from app.api.schemas.governance import PageQuery
from app.api.schemas.whatif import WhatIfRequest, WhatIfRunDocument, WhatIfRunPage
from app.governance.whatif_runs import RunState, begin_run, cancel_run, end_run, find_run, list_runs
from app.identities.principal import Principal, Role

PATH = f"{drafts.PATH}/{{draft_id}}/what-if"

Asker = Annotated[Principal, Depends(require(Role.POLICY_AUTHOR, Role.POLICY_APPROVER, Role.ADMIN))]
RunId = Annotated[int, Path(ge=1, le=2**53)]

router = APIRouter(tags=["policies"])


@router.post(
    PATH,
    summary="Decide the log again under a draft",
    status_code=202,
    response_model=WhatIfRunDocument,
    responses=problem_responses(ProblemType.NOT_FOUND, ProblemType.CONFLICT, ProblemType.BODY_TOO_LARGE),
)
async def start_what_if(request: Request, draft_id: DraftId, body: WhatIfRequest, caller: Asker) -> Response:
    """Starts it and answers at once; `Location` tells how far it is, and then which report came of it.

    One runs at a time (409), beside the service and at the lowest priority. The report is stored with the draft.
    """
    gate: Runtime = request.app.state.gate
    lacking = gate.what_ifs.lacks()
    if lacking is not None:
        raise Problem(ProblemType.CONFLICT, f"This service runs no what-ifs: {lacking}.")
    async with gate.admin_engine.connect() as connection:
        run = await begin_run(connection, draft_id, body.question(), actor=caller.subject)
    try:
        await gate.what_ifs.start(run.run_id)
    except OSError:
        async with gate.admin_engine.connect() as connection:
            await end_run(connection, run.run_id, RunState.FAILED, failure="its process could not be started")
        raise
    document = WhatIfRunDocument.of(run).model_dump(mode="json")
    return JSONResponse(document, status_code=202, headers={"Location": _path(draft_id, run.run_id)})


@router.get(
    PATH,
    summary="What-ifs on a draft",
    response_model=WhatIfRunPage,
    responses=problem_responses(ProblemType.NOT_FOUND),
)
async def get_what_ifs(
    request: Request, draft_id: DraftId, query: Annotated[PageQuery, Query()], _: Reader
) -> WhatIfRunPage:
    """A page, newest first; those on an earlier document of the draft are among them."""
    gate: Runtime = request.app.state.gate
    async with gate.read_engine.connect() as connection:
        await existing_draft(connection, draft_id)
        found = await list_runs(connection, draft_id, before_id=number_of(query.cursor), limit=query.limit + 1)
    page, next_cursor = page_of(found, query.limit, lambda each: each.run_id)
    return WhatIfRunPage(
        items=tuple(WhatIfRunDocument.of(run) for run in page),
        next_cursor=next_cursor,
    )


@router.get(
    f"{PATH}/{{run_id}}",
    summary="One what-if: how far it is, and its report",
    response_model=WhatIfRunDocument,
    responses=problem_responses(ProblemType.NOT_FOUND),
)
async def get_what_if(request: Request, draft_id: DraftId, run_id: RunId, _: Reader) -> WhatIfRunDocument:
    """`rows_done` of `rows_total` in its phase, told twice a second. Once done, `report_id` and `report_digest`."""
    gate: Runtime = request.app.state.gate
    async with gate.read_engine.connect() as connection:
        run = await find_run(connection, draft_id, run_id)
    if run is None:
        raise Problem(ProblemType.NOT_FOUND, "The draft has no such what-if.")
    return WhatIfRunDocument.of(run)


@router.post(
    f"{PATH}/{{run_id}}/cancel",
    summary="Cancel a what-if",
    response_model=WhatIfRunDocument,
    responses=problem_responses(ProblemType.NOT_FOUND),
)
async def cancel_what_if(request: Request, draft_id: DraftId, run_id: RunId, caller: Asker) -> WhatIfRunDocument:
    """Its process stops at the next batch, and no report is stored. One that is over stays as it is."""
    gate: Runtime = request.app.state.gate
    async with gate.admin_engine.connect() as connection:
        return WhatIfRunDocument.of(await cancel_run(connection, draft_id, run_id, actor=caller.subject))


def _path(draft_id: int, run_id: int) -> str:
    return f"{drafts.PATH}/{draft_id}/what-if/{run_id}"
