"""People who apply, as columns: what the gate is told of them, and what it is not."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa

from app.tiering.arrays import Flags, Floats, Integers
from app.whatif.schema import TEXT, arrow_schema

DECIDED_AT_US: Final = int(datetime(2026, 1, 15, tzinfo=UTC).timestamp()) * 1_000_000
PRODUCT: Final = "unsecured_consumer"
TERM_MONTHS: Final = 12
APR_BPS: Final = 2_350
NO_FILE_SHARE: Final = 0.04
_NOTHING_FOUND: Final = "bureau.bankruptcy_months_ago=not_found"
_VERIFICATIONS: Final = (0.05, 0.10, 0.40, 0.35, 0.10)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Applicants:
    """Applications of a month, in the order in which they arrive; every array has a cell an application.

    Money is in minor units. verification: position among the domain's choices.
    """

    channel: Integers
    score: Integers
    has_file: Flags
    amount: Integers
    income: Integers
    obligations: Integers
    verification: Integers
    history_months: Integers
    inquiries: Integers
    lenders: Integers
    past_due_days: Integers
    employed_months: Integers
    resident_months: Integers
    ids_on_device: Integers

    def __len__(self) -> int:
        return int(self.channel.size)

    def where(self, rows: Flags | Integers) -> Applicants:
        """Some of them."""
        return Applicants(**{each.name: getattr(self, each.name)[rows] for each in fields(self)})


def draw(random: np.random.Generator, channel: Integers, mean_score: Floats) -> Applicants:
    """People who come through these channels; `mean_score` is of each one's channel. They arrive in random order."""
    order = random.permutation(channel.size)
    channel, mean_score = channel[order], mean_score[order]
    count = channel.size
    score = np.clip(np.rint(random.normal(mean_score, 55.0)), 350, 900).astype(np.int64)
    better = (score - 690) / 55.0
    income = np.exp(random.normal(np.log(900_000) + 0.08 * better, 0.45)).astype(np.int64)
    owed = np.clip(random.beta(2.0, 6.0, count) - 0.02 * better, 0.0, 0.9)
    amount = np.exp(random.normal(np.log(2_000_000), 0.5, count)).astype(np.int64) // 10_000 * 10_000
    return Applicants(
        channel=channel,
        score=score,
        has_file=random.random(count) >= NO_FILE_SHARE,
        amount=np.maximum(amount, 100_000),
        income=income,
        obligations=(income * owed).astype(np.int64),
        verification=random.choice(len(_VERIFICATIONS), count, p=_VERIFICATIONS).astype(np.int64),
        history_months=np.clip(random.gamma(2.0, 30.0, count), 0, 400).astype(np.int64),
        inquiries=random.poisson(np.clip(2.0 - 0.3 * better, 0.3, None)).astype(np.int64),
        lenders=random.poisson(np.clip(1.4 - 0.2 * better, 0.2, None)).astype(np.int64),
        past_due_days=(random.random(count) < np.clip(0.06 - 0.02 * better, 0.005, 0.5)) * 45,
        employed_months=np.clip(random.gamma(1.8, 24.0, count), 0, 480).astype(np.int64),
        resident_months=np.clip(random.gamma(1.8, 28.0, count), 0, 480).astype(np.int64),
        ids_on_device=1 + random.binomial(3, 0.03, count).astype(np.int64),
    )


def batch_of(
    applicants: Applicants, states: tuple[str, ...], tiers: tuple[str, ...], budget_available: Flags | None = None
) -> pa.RecordBatch:
    """Applications as the gate takes them in columns; states and tiers are by channel.

    budget_available: None where nobody has asked a budget yet.
    """
    count = len(applicants)
    codes = applicants.channel.astype(np.int32)
    filed = applicants.has_file
    columns: dict[str, Any] = {
        "row_id": pa.nulls(count, pa.binary()),
        "decided_at": pa.array(np.full(count, DECIDED_AT_US)),
        "channel_state": _texts(codes, states),
        "assigned_tier": _texts(codes, tiers),
        "served": pa.array(np.isin(np.array(states), ["active", "probation"])[applicants.channel]),
        "currency": _text("CNY", count),
        "product": _text(PRODUCT, count),
        "unknown": _text(_NOTHING_FOUND, count),
        "consent": pa.array(np.ones(count, np.bool_)),
        "malformed": pa.array(np.zeros(count, np.bool_)),
        "amount": pa.array(applicants.amount),
        "term_months": pa.array(np.full(count, TERM_MONTHS)),
        "all_in_apr_pct": pa.array(np.full(count, APR_BPS)),
        "applicant.applicant_ref": _text("somebody", count),
        "applicant.age_years": pa.array(np.full(count, 35)),
        "applicant.employment_months": pa.array(applicants.employed_months),
        "applicant.residence_months": pa.array(applicants.resident_months),
        "applicant.monthly_income": pa.array(applicants.income),
        "applicant.income_verification": pa.array(applicants.verification),
        "applicant.monthly_obligations": pa.array(applicants.obligations),
        "bureau.hit": pa.array(filed),
        "bureau.pulled_at": pa.array(np.full(count, DECIDED_AT_US)),
        "bureau.score": pa.array(applicants.score, mask=~filed),
        "bureau.history_months": pa.array(applicants.history_months, mask=~filed),
        "bureau.max_dpd_12m": pa.array(applicants.past_due_days, mask=~filed),
        "bureau.current_dpd_own": pa.array(np.zeros(count, np.int64), mask=~filed),
        "bureau.inquiries_3m": pa.array(applicants.inquiries, mask=~filed),
        "bureau.active_lenders": pa.array(applicants.lenders, mask=~filed),
        "bureau.open_judgment": pa.array(np.zeros(count, np.bool_), mask=~filed),
        "device.ids_on_device_24h": pa.array(applicants.ids_on_device),
        "person.open_accepts": pa.array(np.zeros(count, np.int64)),
        "person.rejects_elsewhere_30d": pa.array(np.zeros(count, np.int64)),
        "person.applications_30d": pa.array(np.ones(count, np.int64)),
        "person.channels_30d": pa.array(np.ones(count, np.int64)),
        "application.changes": pa.array(np.zeros(count, np.int64)),
    }
    if budget_available is not None:
        columns["budget.available"] = pa.array(budget_available)
    schema = arrow_schema(())
    arrays = [columns.get(column.name) for column in schema]
    return pa.RecordBatch.from_arrays(
        [
            pa.nulls(count, column.type) if array is None else _typed(array, column.type)
            for array, column in zip(arrays, schema, strict=True)
        ],
        schema=schema,
    )


def _typed(array: pa.Array, kind: pa.DataType) -> pa.Array:
    return array if array.type == kind else array.cast(kind)


def _text(text: str, count: int) -> pa.Array:
    return _texts(np.zeros(count, np.int32), (text,))


def _texts(codes: Any, texts: tuple[str, ...]) -> pa.Array:
    """Texts by code, each distinct text once."""
    distinct = tuple(dict.fromkeys(texts))
    places = np.array([distinct.index(text) for text in texts], np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(places[codes]), pa.array(distinct, pa.string())).cast(TEXT)
