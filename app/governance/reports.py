"""What-if reports on drafts, as they are stored: text, named by its digest."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.changes import Change, refusals
from app.db.tables import whatif_reports
from app.domain.canonical import digest
from app.governance.drafts import Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A report on one document of one draft. `text` is what `report_digest` was made of; a list leaves it out."""

    report_id: int
    draft_id: int
    document_digest: bytes
    report_digest: bytes
    created_by: str
    created_at: datetime
    text: str | None


_PUT = text("SELECT gate.report_put(:draft_id, :document_digest, :report, :report_digest, :actor, :request_id)")


async def put_report(connection: AsyncConnection, draft: Draft, report: str, *, change: Change) -> Report:
    """Store a report on the document that the draft has. The same report again is the same row.

    Raises:
        StaleChangeError: where the draft has another document by now.
        ConflictingChangeError: where the draft is past its review.
    """
    given = {
        "draft_id": draft.draft_id,
        "document_digest": draft.digest,
        "report": report,
        "report_digest": digest(report.encode()),
        "actor": change.actor,
        "request_id": change.request_id,
    }
    with refusals():
        report_id = (await connection.execute(_PUT, given)).scalar_one()
    (stored,) = await _read(connection, whatif_reports.c.report_id == report_id, whole=True)
    return stored


async def list_reports(
    connection: AsyncConnection, draft_id: int, *, before_id: int | None = None, limit: int | None = None
) -> tuple[Report, ...]:
    """The reports on a draft without their text, newest first, beginning below `before_id`; None: all of them.

    Those on an earlier document of the draft are among them.
    """
    where = whatif_reports.c.draft_id == draft_id
    if before_id is not None:
        where &= whatif_reports.c.report_id < before_id
    return await _read(connection, where, whole=False, limit=limit)


async def find_report(connection: AsyncConnection, draft_id: int, report_id: int) -> Report | None:
    """A report on this draft, with its text."""
    of_draft = whatif_reports.c.draft_id == draft_id
    found = await _read(connection, of_draft & (whatif_reports.c.report_id == report_id), whole=True)
    return found[0] if found else None


async def _read(
    connection: AsyncConnection, where: ColumnElement[bool], *, whole: bool, limit: int | None = None
) -> tuple[Report, ...]:
    columns = [column for column in whatif_reports.c if whole or column.name != "report"]
    query = select(*columns).where(where).order_by(whatif_reports.c.report_id.desc()).limit(limit)
    return tuple(
        Report(
            report_id=row["report_id"],
            draft_id=row["draft_id"],
            document_digest=bytes(row["document_digest"]),
            report_digest=bytes(row["report_digest"]),
            created_by=row["created_by"],
            created_at=row["created_at"].astimezone(UTC),
            text=row["report"] if whole else None,
        )
        for row in (await connection.execute(query)).mappings()
    )
