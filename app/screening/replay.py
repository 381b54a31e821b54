"""Decides stored decisions again, under their own policy version and context, and compares every byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

import orjson
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.canonical import Json
from app.domain.compiled import CompiledPolicy
from app.domain.errors import DomainError, PolicyError
from app.domain.record import Replay, ReplayError, replay
from app.journal.reader import DecisionFilter, StoredDecision, stream_decisions
from app.screening.payload import PAYLOAD
from app.screening.policy_library import PolicyLibrary, UnknownVersionError

MAX_FINDINGS = 1_000
"""How many decisions that did not come out identical a report names; all are counted."""


class Verdict(StrEnum):
    """What became of a stored decision when it was made again."""

    IDENTICAL = "identical"
    DIFFERENT = "different"
    ERASED = "erased"
    """The person's data was erased: there is nothing to decide from."""
    UNREADABLE = "unreadable"
    """Another engine made it, its policy is gone, or what is stored is not whole."""


class Finding(NamedTuple):
    """The verdict on one decision. `detail` is where it differs first, or why it cannot be read; never a value."""

    decision_id: UUID
    verdict: Verdict
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """Counts by verdict, and the first decisions that are different or unreadable."""

    counts: dict[Verdict, int]
    findings: tuple[Finding, ...]

    @property
    def total(self) -> int:
        """How many decisions were looked at."""
        return sum(self.counts.values())

    @property
    def exact(self) -> bool:
        """Whether every decision that still has its input came out the same, byte for byte."""
        return not self.counts[Verdict.DIFFERENT] and not self.counts[Verdict.UNREADABLE]


async def replay_log(
    connection: AsyncConnection,
    library: PolicyLibrary,
    wanted: DecisionFilter,
    *,
    limit: int | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> ReplayReport:
    """Replay what `wanted` selects, oldest first, in bounded memory. `on_progress` hears how many more are done."""
    counts = dict.fromkeys(Verdict, 0)
    findings: list[Finding] = []
    async for batch in stream_decisions(connection, wanted, limit=limit):
        for stored in batch:
            finding = await _replayed(connection, library, stored)
            counts[finding.verdict] += 1
            if finding.verdict in {Verdict.DIFFERENT, Verdict.UNREADABLE} and len(findings) < MAX_FINDINGS:
                findings.append(finding)
        on_progress(len(batch))
    return ReplayReport(counts=counts, findings=tuple(findings))


async def _replayed(connection: AsyncConnection, library: PolicyLibrary, stored: StoredDecision) -> Finding:
    try:
        policy = await library.policy(connection, stored.summary.policy_version)
    except (UnknownVersionError, PolicyError) as error:
        return Finding(stored.summary.decision_id, Verdict.UNREADABLE, str(error))
    return replay_decision(policy, stored)


def replay_decision(policy: CompiledPolicy, stored: StoredDecision) -> Finding:
    """The verdict on one stored decision under the policy version that it names."""
    decision_id = stored.summary.decision_id
    if stored.summary.erased_at is not None:
        return Finding(decision_id, Verdict.ERASED)
    if stored.input is None or stored.record is None:
        return Finding(decision_id, Verdict.UNREADABLE, "the input or the record is missing")
    try:
        again = decide_again(policy, stored.input, stored.record)
    except DomainError as error:
        return Finding(decision_id, Verdict.UNREADABLE, str(error))
    difference = next(_differences(stored, again), None)
    if difference is None:
        return Finding(decision_id, Verdict.IDENTICAL)
    return Finding(decision_id, Verdict.DIFFERENT, difference)


def decide_again(policy: CompiledPolicy, input_: bytes, record: bytes) -> Replay:
    """The decision that the stored input and context come to.

    Raises:
        DomainError: where they do not belong to this engine or policy version, or are not whole.
    """
    try:
        return replay(policy, _request(input_), _document(record))
    except (KeyError, TypeError, ValueError) as error:
        raise ReplayError(f"what is stored is not whole: {type(error).__name__}") from error


def _request(stored: bytes) -> Mapping[str, object]:
    """The stored request, read as the hot path reads it.

    A schema may have become stricter since; what it no longer takes is read as plain JSON, which the domain checks.
    """
    try:
        return PAYLOAD.validate_json(stored)
    except ValidationError:
        return _document(stored)


def _document(stored: bytes) -> dict[str, Json]:
    document = orjson.loads(stored)
    if not isinstance(document, dict):
        raise TypeError("not an object")
    return document


def document_bytes(document: dict[str, Json]) -> bytes:
    """A record or response as the log holds it."""
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def _differences(stored: StoredDecision, again: Replay) -> Iterator[str]:
    """Where the replayed decision is not what is stored: response, record, then the columns that lists ask for."""
    for name, before, after in (("response", stored.response, again.response), ("record", stored.record, again.record)):
        if document_bytes(after) != before:
            yield name + first_difference(orjson.loads(before or b"null"), orjson.loads(document_bytes(after)))
    record, columns = again.record, stored.summary
    for name, column, decided in (
        ("outcome", columns.outcome, record["outcome"]),
        ("next_action", columns.next_action, record["next_action"]),
        ("tier", columns.tier, again.response["tier"]),
        ("reason_codes", list(columns.reason_codes), _codes(record["reasons"])),
    ):
        if column != decided:
            yield f"column {name}"


def _codes(reasons: Json) -> list[Json]:
    return [reason["code"] for reason in reasons if isinstance(reason, dict)] if isinstance(reasons, list) else []


def first_difference(before: Json, after: Json, pointer: str = "") -> str:
    """The JSON pointer of the first place where two documents differ; " (encoding)" where only their bytes do."""
    return _first_difference(before, after, pointer) or " (encoding)"


def _first_difference(before: Json, after: Json, pointer: str) -> str:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            if key not in before or key not in after:
                return f"{pointer}/{key}"
            if found := _first_difference(before[key], after[key], f"{pointer}/{key}"):
                return found
        return ""
    if isinstance(before, list) and isinstance(after, list):
        for position, (one, other) in enumerate(zip(before, after, strict=False)):
            if found := _first_difference(one, other, f"{pointer}/{position}"):
                return found
        return "" if len(before) == len(after) else f"{pointer}/{min(len(before), len(after))}"
    return "" if before == after and type(before) is type(after) else pointer or "/"
