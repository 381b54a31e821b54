"""Decisions to decide again: a synthetic extract of any size, and a log of real decisions in a database."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import numpy as np
import orjson
import pyarrow as pa

from app.domain.channel import ChannelState
from app.domain.compiled import CompiledPolicy
from app.domain.fields import INCOME_VERIFICATION
from app.domain.intake import read_application
from app.domain.record import ENGINE, documents
from app.domain.screening import screen
from app.domain.settlement import settle
from app.whatif.arrays import Integers
from app.whatif.evaluation import ACTIONS, OUTCOMES, evaluate
from app.whatif.extract import DayFile, ExtractDirectory
from app.whatif.packing import microseconds
from app.whatif.run import BATCH_ROWS
from app.whatif.schema import TEXT, arrow_schema
from app.whatif.standing import standing_under
from benchmarks.ground import applications

CHANNELS = tuple(f"channel-{number:03d}" for number in range(200))
TIERS = ("prime", "general", "risk")
_SEED = 20_261_124
_DAY_US = 86_400_000_000


def synthetic_extract(directory: Path, policy: CompiledPolicy, *, decisions: int, days: int) -> list[DayFile]:
    """An extract of `decisions` that `policy` decided, in as many days; the applications are drawn, always the same."""
    place = ExtractDirectory(directory)
    made = []
    with place.locked():
        for number in range(days):
            day = date(2026, 6, 1) + timedelta(days=number)
            count = decisions // days + (number < decisions % days)
            file = DayFile(
                retention_class="consumer",
                day=day.isoformat(),
                decisions=count,
                erased=0,
                unreadable=0,
                log_digest=hashlib.sha256(f"{_SEED} {number} {count}".encode()).hexdigest(),
                audit_sequence=0,
                file_digest="",
            )
            with place.writer(file.name, arrow_schema(())) as write:
                for start in range(0, count, BATCH_ROWS):
                    rows = min(BATCH_ROWS, count - start)
                    write(_drawn(np.random.default_rng((_SEED, number, start)), policy, day, rows))
            made.append(file)
        place.write_index({(each.retention_class, each.day): each for each in made})
    return made


def _drawn(draw: np.random.Generator, policy: CompiledPolicy, day: date, rows: int) -> pa.RecordBatch:
    """Rows whose recorded decision is what the policy comes to on them."""

    def number(low: int, high: int, known: float = 1.0) -> pa.Array:
        return pa.array(draw.integers(low, high, rows), mask=draw.random(rows) >= known)

    def text(choices: tuple[str, ...], shares: list[float] | None = None) -> pa.Array:
        codes = draw.choice(len(choices), rows, p=shares).astype(np.int32)
        return pa.DictionaryArray.from_arrays(codes, pa.array(choices, pa.string()))

    def flag(share: float, known: float = 1.0) -> pa.Array:
        return pa.array(draw.random(rows) < share, mask=draw.random(rows) >= known)

    start = microseconds(datetime(day.year, day.month, day.day, tzinfo=UTC))
    at: Integers = start + np.sort(draw.integers(0, _DAY_US, rows))
    bankruptcy = number(0, 200, 0.02)
    ids = np.frombuffer(draw.bytes(rows * 16), dtype="S16")
    columns: dict[str, Any] = {
        "row_id": pa.array([bytes(each).ljust(16, b"\1") for each in ids], pa.binary()),
        "decided_at": at,
        "readable": pa.array(np.ones(rows, np.bool_)),
        "erased": pa.array(np.zeros(rows, np.bool_)),
        "malformed": pa.array(np.zeros(rows, np.bool_)),
        "channel_code": text(CHANNELS),
        "channel_state": text(("active", "probation", "suspended"), [0.93, 0.05, 0.02]),
        "served": flag(0.98),
        "assigned_tier": text(TIERS),
        "consent": pa.array(np.ones(rows, np.bool_)),
        "currency": text(("CNY",)),
        "bureau.pulled_at": at - draw.integers(0, 32 * _DAY_US, rows),
        "unknown": pa.array(
            np.where(bankruptcy.is_null(), "bureau.bankruptcy_months_ago=not_found", None), pa.string()
        ),
        "product": text(("unsecured_consumer",)),
        "jurisdiction": text(("CN",)),
        "applicant.applicant_ref": pa.array(
            [f"p-{each}" for each in draw.integers(0, 10**9, rows)]
        ).dictionary_encode(),
        "amount": draw.integers(10, 1_200, rows) * 10_000,
        "term_months": draw.choice(np.array((6, 12, 18, 24, 36, 60)), rows),
        "all_in_apr_pct": number(600, 2_500),
        "applicant.birth_date": number(date(1955, 1, 1).toordinal(), date(2009, 1, 1).toordinal(), 0.98),
        "applicant.employment_months": number(0, 240, 0.95),
        "applicant.residence_months": number(0, 360, 0.95),
        "applicant.monthly_income": number(200_000, 4_000_000, 0.97),
        "applicant.income_verification": number(0, len(INCOME_VERIFICATION), 0.98),
        "applicant.monthly_obligations": number(0, 800_000, 0.97),
        "bureau.hit": flag(0.93, 0.98),
        "bureau.score": number(450, 850, 0.93),
        "bureau.history_months": number(0, 240, 0.93),
        "bureau.max_dpd_12m": pa.array(np.where(draw.random(rows) < 0.9, 0, draw.integers(1, 120, rows))),
        "bureau.current_dpd_own": pa.array(np.where(draw.random(rows) < 0.98, 0, draw.integers(1, 60, rows))),
        "bureau.inquiries_3m": number(0, 9, 0.95),
        "bureau.active_lenders": number(0, 7, 0.95),
        "bureau.bankruptcy_months_ago": bankruptcy,
        "bureau.open_judgment": flag(0.01, 0.95),
        "device.ids_on_device_24h": number(0, 4, 0.9),
    }
    schema = arrow_schema(())
    arrays = [
        pa.array(columns[field.name], field.type)
        if isinstance(columns.get(field.name), np.ndarray)
        else _cast(columns.get(field.name), field.type, rows)
        for field in schema
    ]
    batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
    decided = evaluate(batch, policy)
    sets = np.array([",".join(np.array(decided.codes)[has]) for has in decided.reasons.T])
    recorded = {
        "outcome": pa.array([outcome.value for outcome in OUTCOMES]).take(pa.array(decided.outcomes)),
        "next_action": pa.array([action.value for action in ACTIONS]).take(pa.array(decided.actions)),
        "tier": pa.array(decided.tier_codes).take(pa.array(decided.tiers)),
        "reason_codes": pa.array(sets),
        "ceiling_amount": pa.array(decided.ceilings),
        "offered_amount": pa.array(decided.offered, mask=decided.offered == 0),
    }
    for name, array in recorded.items():
        position = schema.get_field_index(name)
        batch = batch.set_column(position, schema.field(position), _cast(array, schema.field(position).type, rows))
    return batch


def _cast(array: pa.Array | None, kind: pa.DataType, rows: int) -> pa.Array:
    if array is None:
        return pa.nulls(rows, kind)
    if kind == TEXT and not pa.types.is_dictionary(array.type):
        array = array.cast(pa.string()).dictionary_encode()
    return array.cast(kind)


async def fill_log(url: str, policy: CompiledPolicy, *, decisions: int, days: int) -> None:
    """Put real decisions of past days into the log of a seeded database, faster than the service could make them."""
    connection = await asyncpg.connect(url)
    try:
        channels = await connection.fetch("SELECT channel_id, code FROM gate.channels ORDER BY channel_id")
        last = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
        rows = _stored(policy, [(row["channel_id"], row["code"]) for row in channels], last, decisions, days)
        months = {(last - timedelta(days=day)).replace(day=1) for day in range(days)}
        for month in sorted(months):
            end = (month + timedelta(days=31)).replace(day=1)
            await connection.execute(
                f"CREATE TABLE IF NOT EXISTS gate.decisions_consumer_{month:%Y_%m} "
                f"PARTITION OF gate.decisions_consumer FOR VALUES FROM ('{month.isoformat()}') TO ('{end.isoformat()}')"
            )
        await connection.copy_records_to_table("decisions", schema_name="gate", columns=_COLUMNS, records=rows)
        await connection.execute("ANALYZE gate.decisions")
    finally:
        await connection.close()


_COLUMNS = (
    "decision_id", "decided_at", "retention_class", "originator_id", "application_id", "revision", "channel_id",
    "channel_code", "product", "jurisdiction", "tier", "policy_version", "engine", "outcome", "next_action", "amount",
    "currency", "term_months", "ceiling_amount", "offered_amount", "reason_codes", "applicant_ref", "fingerprint",
    "content_digest", "input", "record", "response",
)  # fmt: skip


def _stored(
    policy: CompiledPolicy, channels: list[tuple[int, str]], last: datetime, decisions: int, days: int
) -> Iterator[tuple[Any, ...]]:
    draw = random.Random(_SEED)
    requests = applications(2_000)
    step = timedelta(days=days) / decisions
    for number in range(decisions):
        at = last + timedelta(days=1) - step * (decisions - number)
        channel_id, code = channels[draw.randrange(len(channels))]
        request: dict[str, Any] = dict(requests[number % len(requests)])
        request |= {"application_id": f"b-{number}", "channel_code": code}
        request["bureau"] = request["bureau"] | {"pulled_at": at.isoformat()}
        decision_id = UUID(int=int(at.timestamp() * 1000) << 80 | 0x7 << 76 | 0x2 << 62 | number)
        application = read_application(request, policy)
        standing = standing_under(
            policy, channel_code=code, state=ChannelState.ACTIVE, served=True, assigned=draw.choice(TIERS)
        )._replace(channel_id=channel_id)  # type: ignore[arg-type]
        decision = settle(screen(policy, standing, application, at))
        made = documents(decision, decision_id=str(decision_id))
        body = orjson.dumps(request)
        record, response = (orjson.dumps(each, option=orjson.OPT_SORT_KEYS) for each in (made.record, made.response))
        offer = decision.counter_offer
        yield (
            decision_id, at, "consumer", 1, f"b-{number}", 1, channel_id, code, application.product,
            application.jurisdiction, standing.tier, policy.version, ENGINE, decision.outcome.value,
            decision.next_action.value, application.amount, application.currency, application.term_months,
            decision.screening.ceiling.amount, None if offer is None else offer.amount,
            [reason.code for reason in decision.reasons], application.applicant_ref, hashlib.sha256(body).digest(),
            hashlib.sha256(body + record).digest(), body, record, response,
        )  # fmt: skip
