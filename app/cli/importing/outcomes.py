"""A file of outcome events into the database: checked here, copied to the staging table, merged there by slots.

An application's events share a slot, so each application is folded once, and slots are merged side by side.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
from pydantic import ValidationError

from app.cli.errors import CommandError
from app.cli.importing.files import NumberedRow, Rows, Unreadable
from app.cli.importing.mapper import Mapper, RowProblem, RowRefusedError
from app.cli.importing.mapping import TableMapping, parse_table_mapping
from app.cli.importing.staging import LoadLedger
from app.outcomes.payload import EVENT, EventError, EventRow, row_of

SLOTS = 32
CHUNK_ROWS = 20_000
"""Rows that are copied in one transaction, and done again at most after a kill."""

_MERGE_MEMORY = "128MB"
"""What a slot of a million events is sorted in; past it, sorts go through files."""
_NUMBERS = ("correction", "month_on_book", "instalment", "amount", "balance", "days_past_due", "rating")
_TEXTS = ("application_id", "kind", "reference", "currency", "feed")
FIELDS = frozenset({*_NUMBERS, *_TEXTS, "occurred_on", "retracted"})
_COLUMNS = ("load_id", "slot", "originator_id", *EventRow._fields)


@dataclass(frozen=True, slots=True)
class Event:
    """A row of the file that is an event."""

    number: int
    row: EventRow
    done: float


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that is none, and why."""

    number: int
    kind: str
    problems: tuple[RowProblem, ...]
    done: float


Read: TypeAlias = Event | Refused


def mapping_by_name() -> TableMapping:
    """Columns that are named as the fields; each may be missing. Amounts are in minor units."""
    fields: dict[str, Any] = {name: {"column": name, "optional": True} for name in (*_TEXTS, "occurred_on")}
    fields |= {name: {"column": name, "as": "number", "optional": True} for name in _NUMBERS}
    fields["retracted"] = {"column": "retracted", "as": "boolean", "optional": True}
    return TableMapping.model_validate({"fields": fields})


def parse_outcome_mapping(text: str) -> TableMapping:
    """A mapping to the fields of an event. Raises MappingError with every fault and its line."""
    return parse_table_mapping(text, FIELDS)


def read_mapped(rows: Rows, mapper: Mapper) -> Iterator[Read]:
    """The events of a table's rows."""
    for row in rows:
        yield _mapped(row, mapper)


def read_lines(lines: Iterable[tuple[int, bytes, float]]) -> Iterator[Read]:
    """The events of lines that are written as the API takes them: (number, line, share of the file behind it)."""
    validate = EVENT.validate_json
    for number, line, done in lines:
        try:
            yield Event(number, row_of(validate(line)), done)
        except (ValidationError, EventError) as error:
            yield Refused(number, "invalid-event", _problems(error), done)


async def load(
    events: Iterator[Read],
    ledger: LoadLedger,
    connect: Callable[[], Any],
    on_progress: Callable[[str, float], None],
    *,
    originator: str,
    by: str,
    jobs: int,
) -> None:
    """Copy what is not copied yet, then merge what is not merged yet.

    Raises:
        CommandError: where there is no such originator.
    """
    connection: asyncpg.Connection = await connect()
    try:
        number = await connection.fetchval("SELECT originator_id FROM gate.originators WHERE code = $1", originator)
        if number is None:
            raise CommandError("no originator has this code")
        await _forget_what_was_lost(connection, ledger)
        if not ledger.state.copied:
            await _copy_all(connection, events, ledger, number, lambda done: on_progress("copy", done))
            await connection.execute("ANALYZE gate.outcome_staging")
            ledger.state.copied = True
            ledger.save()
    finally:
        await connection.close()
    left = [slot for slot in range(SLOTS) if slot not in ledger.state.merged]
    waiting = iter(left)

    async def work() -> None:
        connection: asyncpg.Connection = await connect()
        try:
            await connection.execute(f"SET work_mem = '{_MERGE_MEMORY}'")
            for slot in waiting:
                found = await connection.fetchrow(
                    "SELECT events, new FROM gate.outcomes_merge($1, $2::smallint, $3)",
                    *(UUID(ledger.state.load_id), slot, by),
                )
                ledger.state.results.update({"new": found["new"], "repeated": found["events"] - found["new"]})
                ledger.state.merged.append(slot)
                ledger.save()
                on_progress("merge", len(ledger.state.merged) / SLOTS)
        finally:
            await connection.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(jobs):
            group.create_task(work())
    connection = await connect()
    try:
        await connection.execute("DELETE FROM gate.outcome_staging WHERE load_id = $1", UUID(ledger.state.load_id))
        await connection.execute("VACUUM (ANALYZE) gate.outcome_staging, gate.application_outcomes")
    finally:
        await connection.close()


async def _forget_what_was_lost(connection: asyncpg.Connection, ledger: LoadLedger) -> None:
    """A crash of the server empties the staging table: what had been copied and not merged is copied again."""
    state = ledger.state
    staged = await connection.fetchval(
        "SELECT count(*) FROM gate.outcome_staging WHERE load_id = $1", UUID(state.load_id)
    )
    expected = state.staged if not state.merged else 0
    if staged < expected or (state.merged and len(state.merged) < SLOTS and staged == 0):
        ledger.start_over()


async def _copy_all(
    connection: asyncpg.Connection,
    events: Iterator[Read],
    ledger: LoadLedger,
    originator_id: int,
    on_progress: Callable[[float], None],
) -> None:
    state = ledger.state
    load_id, done_rows = UUID(state.load_id), state.rows
    records: list[tuple[Any, ...]] = []
    number, done = done_rows, 0.0

    async def copy() -> None:
        if records:
            await connection.copy_records_to_table(
                "outcome_staging", schema_name="gate", columns=_COLUMNS, records=records
            )
        state.staged += len(records)
        state.rows = number
        records.clear()
        ledger.save()
        on_progress(done)

    for event in events:
        if event.number <= done_rows:
            continue
        number, done = event.number, event.done
        if isinstance(event, Refused):
            ledger.reject(event.number, event.kind, event.problems)
            continue
        records.append((load_id, zlib.crc32(event.row[0].encode()) % SLOTS, originator_id, *event.row))
        if len(records) == CHUNK_ROWS:
            await copy()
    await copy()


def _mapped(row: NumberedRow, mapper: Mapper) -> Read:
    if isinstance(row.cells, Unreadable):
        return Refused(row.number, "unreadable-row", (RowProblem(detail=row.cells.detail),), row.done)
    try:
        return Event(row.number, row_of(EVENT.validate_python(mapper.fields(row.cells))), row.done)
    except RowRefusedError as error:
        return Refused(row.number, "not-mapped", error.problems, row.done)
    except (ValidationError, EventError) as error:
        return Refused(row.number, "invalid-event", _problems(error), row.done)


def _problems(error: ValidationError | EventError) -> tuple[RowProblem, ...]:
    if isinstance(error, EventError):
        return (RowProblem(pointer=error.pointer, detail=error.detail),)
    return tuple(
        RowProblem(pointer="/" + "/".join(map(str, each["loc"])), detail=each["msg"])
        for each in error.errors(include_url=False, include_input=False, include_context=False)
    )
