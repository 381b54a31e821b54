"""Makes again what held decisions were resolved to, as `app.screening.replay` does with the decisions themselves."""

from __future__ import annotations

from datetime import datetime

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.errors import DomainError, PolicyError
from app.journal.held import StoredResolution, stream_resolutions
from app.screening.policy_library import PolicyLibrary, UnknownVersionError
from app.screening.replay import (
    MAX_FINDINGS,
    Finding,
    ReplayReport,
    Verdict,
    decide_again,
    document_bytes,
    first_difference,
)


async def replay_resolutions(
    connection: AsyncConnection,
    library: PolicyLibrary,
    *,
    decided_from: datetime | None = None,
    decided_to: datetime | None = None,
) -> ReplayReport:
    """Replay what the held decisions of [decided_from, decided_to) were resolved to, and compare every byte."""
    counts = dict.fromkeys(Verdict, 0)
    findings: list[Finding] = []
    async for batch in stream_resolutions(connection, decided_from=decided_from, decided_to=decided_to):
        for stored in batch:
            finding = await _replayed(connection, library, stored)
            counts[finding.verdict] += 1
            if finding.verdict in {Verdict.DIFFERENT, Verdict.UNREADABLE} and len(findings) < MAX_FINDINGS:
                findings.append(finding)
    return ReplayReport(counts=counts, findings=tuple(findings))


async def _replayed(connection: AsyncConnection, library: PolicyLibrary, stored: StoredResolution) -> Finding:
    if stored.input is None or stored.record is None:
        return Finding(stored.decision_id, Verdict.ERASED)
    try:
        policy = await library.policy(connection, stored.policy_version)
        again = decide_again(policy, stored.input, stored.record)
    except (UnknownVersionError, PolicyError, DomainError) as error:
        return Finding(stored.decision_id, Verdict.UNREADABLE, str(error))
    for name, before, after in (("response", stored.response, again.response), ("record", stored.record, again.record)):
        if document_bytes(after) != before:
            place = first_difference(orjson.loads(before), orjson.loads(document_bytes(after)))
            return Finding(stored.decision_id, Verdict.DIFFERENT, name + place)
    codes = tuple(reason.code for reason in again.decision.reasons)
    decided = (again.record["outcome"], again.record["next_action"], codes)
    if decided != (stored.outcome, stored.next_action, stored.reason_codes):
        return Finding(stored.decision_id, Verdict.DIFFERENT, "columns")
    return Finding(stored.decision_id, Verdict.IDENTICAL)
