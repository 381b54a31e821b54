"""The hot path on single rows of a batch: what the columns are checked against, and whose time is taken."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple, TypeAlias

import pyarrow as pa

from app.domain.channel import ChannelState, Standing
from app.domain.compiled import CompiledPolicy
from app.domain.errors import DomainError
from app.domain.fields import SETTLEMENT_FIELDS, STANDARD_FIELDS
from app.domain.intake import read_application
from app.domain.screening import screen
from app.domain.settlement import NO_FACTS, Decision, Facts, settle
from app.whatif.arrays import Index
from app.whatif.ceilings import CAPS
from app.whatif.evaluation import ACTIONS, OUTCOMES, REFUSED, Evaluation
from app.whatif.packing import LIST, PAIR
from app.whatif.schema import ATTRIBUTE_PARTS, attributes_in
from app.whatif.standing import standing_under

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NAMES: Final = tuple(field.name for field in STANDARD_FIELDS)
_STANDARD: Final = {field.name: field for field in STANDARD_FIELDS}
_PULLED_AT: Final = "bureau.pulled_at"


Answer: TypeAlias = tuple[int, int, int, int, int, set[str]]
"""Outcome, next action, ceiling, binding cap, offered amount and reason codes of one row."""


class DisagreementError(Exception):
    """The columns and the hot path decide a row differently: nothing that was computed may be believed."""


class StoredRow(NamedTuple):
    """One row as the hot path takes it."""

    payload: dict[str, object]
    standing: Standing
    at: datetime
    facts: Facts

    def decide(self, policy: CompiledPolicy) -> Decision:
        """The decision, made by the code that decides live applications.

        Raises:
            DomainError: where the policy would not decide it.
        """
        return settle(screen(policy, self.standing, read_application(self.payload, policy), self.at), self.facts)


def stored_rows(policy: CompiledPolicy, batch: pa.RecordBatch, rows: Index) -> list[StoredRow]:
    """Some rows of a batch, as their channels would stand under `policy`."""
    return [_stored_row(policy, cells) for cells in batch.take(pa.array(rows)).to_pylist()]


def check_rows(policy: CompiledPolicy, batch: pa.RecordBatch, rows: Index, evaluation: Evaluation) -> list[int]:
    """Decide some rows by the hot path and hold the columns' answer against it; the nanoseconds that each took there.

    Raises:
        DisagreementError: where they differ; names neither the row nor a value of it.
    """
    return [
        _check(policy, stored, answer_of(evaluation, row))
        for row, stored in zip(rows.tolist(), stored_rows(policy, batch, rows), strict=True)
    ]


def _check(policy: CompiledPolicy, stored: StoredRow, answer: Answer) -> int:
    began = time.perf_counter_ns()
    try:
        decision = stored.decide(policy)
    except DomainError as error:
        raise DisagreementError("the columns decide a row that the hot path refuses") from error
    took = time.perf_counter_ns() - began
    screening = decision.screening
    offer = decision.counter_offer
    expected = (
        OUTCOMES.index(decision.outcome),
        ACTIONS.index(decision.next_action),
        screening.ceiling.amount,
        CAPS.index(screening.ceiling.binding),
        0 if offer is None else offer.amount,
        {reason.code for reason in decision.reasons},
    )
    if expected != answer:
        raise DisagreementError("the columns decide a row otherwise than the hot path does")
    return took


def answer_of(evaluation: Evaluation, row: int) -> Answer:
    """What the columns say of one row."""
    return (
        int(evaluation.outcomes[row]),
        int(evaluation.actions[row]),
        int(evaluation.ceilings[row]),
        int(evaluation.binding[row]),
        int(evaluation.offered[row]),
        {code for code, has in zip(evaluation.codes, evaluation.reasons[:, row], strict=True) if has},
    )


def is_refused(evaluation: Evaluation, row: int) -> bool:
    """Whether the columns say that the policy would not decide this row."""
    return int(evaluation.outcomes[row]) == REFUSED


def _stored_row(policy: CompiledPolicy, cells: dict[str, Any]) -> StoredRow:
    standing = standing_under(
        policy,
        channel_code=cells["channel_code"],
        state=ChannelState(cells["channel_state"]),
        served=cells["served"],
        assigned=cells["assigned_tier"],
    )
    facts = {field.name: cells[field.name] for field in SETTLEMENT_FIELDS if cells.get(field.name) is not None}
    return StoredRow(
        payload=_payload(cells),
        standing=standing,
        at=_instant(cells["decided_at"]),
        facts=Facts.from_document(facts) if facts else NO_FACTS,
    )


def _payload(cells: dict[str, object]) -> dict[str, object]:
    """The request that a row was made from, as far as its columns are at hand."""
    at = _instant(cells["decided_at"])
    payload: dict[str, object] = {
        "application_id": "row",
        "channel_code": cells["channel_code"],
        "currency": cells["currency"],
        "consent_at": at if cells["consent"] else None,
    }
    for name in _NAMES:
        value = cells.get(name)
        if value is not None:
            _put(payload, name, _STANDARD[name].display(value))  # type: ignore[arg-type]  # a column holds its values
    if cells[_PULLED_AT] is not None:
        _put(payload, _PULLED_AT, _instant(cells[_PULLED_AT]))
    attributes = {name: _attribute(cells, name) for name in attributes_in(cells)}
    nulls = cells["null_attributes"]
    given = set(str(nulls).split(LIST)) if nulls is not None else set()
    payload["attributes"] = {name: raw for name, raw in attributes.items() if raw is not None or name in given}
    stated = cells["unknown"]
    if stated is not None:
        pairs = (pair.partition(PAIR) for pair in str(stated).split(LIST))
        payload["unknown"] = {name: cause for name, _, cause in pairs}
    return payload


def _attribute(cells: dict[str, object], name: str) -> object:
    """The JSON value that the columns of an attribute hold, None where there is none."""
    number, decimals, text, flag = (cells[f"attributes.{name}#{part}"] for part in ATTRIBUTE_PARTS)
    if isinstance(number, int) and isinstance(decimals, int):
        return Decimal(number).scaleb(-decimals) if decimals else number
    return text if flag is None else flag


def _put(payload: dict[str, object], name: str, value: object) -> None:
    section, _, key = name.rpartition(".")
    part = payload.setdefault(section, {}) if section else payload
    assert isinstance(part, dict)
    part[key] = value


def _instant(since_epoch: object) -> datetime:
    assert isinstance(since_epoch, int)
    return _EPOCH + timedelta(microseconds=since_epoch)
