"""One row on its way into the log, and what became of it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, TypeAlias

DecisionKey: TypeAlias = tuple[int, str, int]
"""(originator_id, application_id, revision): unique for the whole retention period."""


class JournalEntry(NamedTuple):
    """A decision as the log stores it, and what it was settled with.

    Amounts are minor units of `currency`; `decision_id` is the text of a UUIDv7; `reason_codes` are joined by commas;
    `fingerprint` and `content_digest` are SHA-256. `policy_version` and `channel_revision` say what it was decided
    under: the flush refuses it where either is no longer current.

    `facts` are those of the person, as `facts_text` writes them; the flush refuses it where they are others. None:
    settled without facts, nothing is compared. `budget_lines` are the (budget, units) that an accept takes;
    `budget_available` says whether it found room, and the flush refuses it where it is not so. `budget_revision` is
    that of the budgets it was decided under; None compares nothing.
    """

    originator_id: int
    application_id: str
    revision: int
    fingerprint: bytes
    decision_id: str
    decided_at: datetime
    retention_class: str
    policy_version: int
    engine: str
    channel_id: int
    channel_revision: int
    channel_code: str
    sub_id: str | None
    product: str
    jurisdiction: str | None
    tier: str
    outcome: str
    next_action: str
    amount: int
    currency: str
    term_months: int
    ceiling_amount: int | None
    offered_amount: int | None
    reason_codes: str
    applicant_ref: str | None
    content_digest: bytes
    input: bytes
    record: bytes
    response: bytes
    facts: str | None = None
    budget_revision: int | None = None
    budget_available: bool | None = None
    budget_lines: tuple[tuple[int, int], ...] = ()

    @property
    def key(self) -> DecisionKey:
        """What makes the request unique."""
        return self[0], self[1], self[2]


class FlushStatus(StrEnum):
    """What the log says of an entry."""

    WRITTEN = "written"
    REPLAYED = "replayed"
    CONFLICT = "conflict"
    SUPERSEDED = "superseded"
    STALE = "stale"
    UNSETTLED = "unsettled"
    POISON = "poison"


class FlushResult(NamedTuple):
    """`response` holds the stored bytes: of this decision when written, of the first one when replayed.

    Unsettled, it holds the actual facts as JSON, by field; else it is None.
    """

    status: FlushStatus
    response: bytes | None = None


class JournalUnavailableError(Exception):
    """The entry is not known to be stored: the caller must not answer with it. A retry finds the truth."""

    def __init__(self, why: str, *, overloaded: bool = False, retry_after_seconds: int = 1) -> None:
        super().__init__(why)
        self.overloaded = overloaded
        self.retry_after_seconds = retry_after_seconds
