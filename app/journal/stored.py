"""Looks up the answer that a request got before, for those that can no longer be decided as they once were."""

from __future__ import annotations

import asyncio

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.tables import decision_keys, decisions
from app.journal.entry import DecisionKey, JournalUnavailableError


async def stored_response(
    engine: AsyncEngine, key: DecisionKey, fingerprint: bytes, deadline_seconds: float
) -> bytes | None:
    """The stored bytes where the same request was decided before, else None.

    Raises:
        JournalUnavailableError: where the log does not say within the deadline.
        sqlalchemy.exc.SQLAlchemyError, OSError: where the database is away.
    """
    originator_id, application_id, revision = key
    query = (
        select(decisions.c.response)
        .join(
            decision_keys,
            (decision_keys.c.decision_id == decisions.c.decision_id)
            & (decision_keys.c.decided_at == decisions.c.decided_at)
            & (decision_keys.c.retention_class == decisions.c.retention_class),
        )
        .where(
            decision_keys.c.originator_id == originator_id,
            decision_keys.c.application_id == application_id,
            decision_keys.c.revision == revision,
            decision_keys.c.fingerprint == fingerprint,
        )
    )
    try:
        async with asyncio.timeout(deadline_seconds), engine.connect() as connection:
            return (await connection.execute(query)).scalar_one_or_none()
    except TimeoutError:
        raise JournalUnavailableError("the decision log did not answer in time") from None
