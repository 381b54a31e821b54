"""What-ifs that a service runs on drafts: who asked for one, how far it is, and what came of it.

A run is a process of its own (`app.whatif.job`); its row is how every worker knows of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import RowMapping, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.changes import refusals
from app.db.tables import whatif_reports, whatif_runs
from app.domain.canonical import Json, canonical_bytes

MAX_PAGE = 100


class RunState(StrEnum):
    """Where a run is. All but `running` are final."""

    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIfRun:
    """A run as it is stored.

    `question` is what was asked, as JSON; `document_digest` is of the document that the draft had then. `rows_done` of
    `rows_total` are over in its `phase` (`starting`, `reading` the log into columns, `deciding`); a total may be
    unknown yet. `measured` is how long it took, and differs from run to run, so it is no part of the report.
    """

    run_id: int
    draft_id: int
    document_digest: bytes
    question: Mapping[str, Any]
    state: RunState
    phase: str
    rows_done: int
    rows_total: int | None
    created_by: str
    created_at: datetime
    heard_at: datetime
    cancelled_by: str | None
    ended_at: datetime | None
    failure: str | None
    report_id: int | None
    report_digest: bytes | None
    measured: Mapping[str, Any] | None


_BEGIN = text("SELECT run_id FROM gate.whatif_begin(:draft_id, :question, :actor)")
_PROGRESS = text("SELECT gate.whatif_progress(:run_id, :phase, :done, :total)")
_CANCEL = text("SELECT run_id FROM gate.whatif_cancel(:draft_id, :run_id, :actor)")
_END = text("SELECT gate.whatif_end(:run_id, :state, :failure, :report_id, cast(:measured AS jsonb))")


async def begin_run(
    connection: AsyncConnection, draft_id: int, question: Mapping[str, Json], *, actor: str
) -> WhatIfRun:
    """Enter a run on the document that the draft has now. Who calls starts its process.

    Raises:
        UnknownSubjectError: there is no such draft.
        ConflictingChangeError: where the draft is past its review, or another run is not over.
    """
    given = {"draft_id": draft_id, "question": canonical_bytes(question).decode(), "actor": actor}
    with refusals():
        run_id = (await connection.execute(_BEGIN, given)).scalar_one()
    return await _one(connection, run_id)


async def tell_progress(connection: AsyncConnection, run_id: int, phase: str, done: int, total: int | None) -> bool:
    """Say how far a run is; False where it should stop."""
    given = {"run_id": run_id, "phase": phase, "done": done, "total": total}
    return bool((await connection.execute(_PROGRESS, given)).scalar_one())


async def cancel_run(connection: AsyncConnection, draft_id: int, run_id: int, *, actor: str) -> WhatIfRun:
    """Ask a run to stop; one that is over stays as it is.

    Raises:
        UnknownSubjectError: the draft has no such run.
    """
    with refusals():
        await connection.execute(_CANCEL, {"draft_id": draft_id, "run_id": run_id, "actor": actor})
    return await _one(connection, run_id)


async def end_run(
    connection: AsyncConnection,
    run_id: int,
    state: RunState,
    *,
    failure: str | None = None,
    report_id: int | None = None,
    measured: Mapping[str, Json] | None = None,
) -> None:
    """Write down how a run ended. One that has ended already stays as it is.

    Raises:
        InvalidChangeError: where the report is not on the document that the run began with.
    """
    given = {
        "run_id": run_id,
        "state": state.value,
        "failure": failure,
        "report_id": report_id,
        "measured": None if measured is None else json.dumps(measured),
    }
    with refusals():
        await connection.execute(_END, given)


async def find_run(connection: AsyncConnection, draft_id: int, run_id: int) -> WhatIfRun | None:
    """A run on this draft."""
    query = _selection().where(whatif_runs.c.run_id == run_id, whatif_runs.c.draft_id == draft_id)
    found = (await connection.execute(query)).mappings().first()
    return None if found is None else _run(found)


async def list_runs(
    connection: AsyncConnection, draft_id: int, *, before_id: int | None = None, limit: int = MAX_PAGE
) -> tuple[WhatIfRun, ...]:
    """At most `limit` runs on a draft, the newest first, beginning below `before_id`."""
    query = _selection().where(whatif_runs.c.draft_id == draft_id).order_by(whatif_runs.c.run_id.desc()).limit(limit)
    if before_id is not None:
        query = query.where(whatif_runs.c.run_id < before_id)
    return tuple(_run(row) for row in (await connection.execute(query)).mappings())


async def run_by_id(connection: AsyncConnection, run_id: int) -> WhatIfRun | None:
    """A run, whatever draft it is on."""
    found = (await connection.execute(_selection().where(whatif_runs.c.run_id == run_id))).mappings().first()
    return None if found is None else _run(found)


def _selection() -> Any:
    return select(whatif_runs, whatif_reports.c.report_digest).join_from(
        whatif_runs, whatif_reports, whatif_reports.c.report_id == whatif_runs.c.report_id, isouter=True
    )


async def _one(connection: AsyncConnection, run_id: int) -> WhatIfRun:
    return _run((await connection.execute(_selection().where(whatif_runs.c.run_id == run_id))).mappings().one())


def _run(row: RowMapping) -> WhatIfRun:
    values: dict[str, Any] = {
        name: value.astimezone(UTC) if isinstance(value, datetime) else value for name, value in row.items()
    }
    values["question"] = json.loads(values["question"])
    values["state"] = RunState(values["state"])
    return WhatIfRun(**values)
