"""A file of loans from before the gate: checked here, copied to the staging table, merged there as one book.

One row a loan with its final status, or one row a loan and month on book with the status at its end; the columns of the
loan are then the same in each of its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from typing import Annotated, Any, Literal, Self
from uuid import UUID

import asyncpg
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from app.cli.importing.files import Rows, Unreadable
from app.cli.importing.mapper import Mapper, RowProblem, RowRefusedError
from app.cli.importing.mapping import TableMapping, parse_table_mapping
from app.cli.importing.staging import LoadLedger
from app.domain.fields import MAX_MONEY
from app.outcomes.payload import Currency, Day

CHUNK_ROWS = 10_000
_Ref = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:/+=@-]{1,64}$")]
_Text = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]
_Money = Annotated[int, Field(ge=0, le=MAX_MONEY)]


class BookRow(BaseModel):
    """A loan of the book, or one of its months. Amounts are in minor units of `currency`.

    `applicant_ref` is the same keyed hash that applications carry, so that an erasure finds it. Month on book 0 is the
    month of funding.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    loan_ref: _Ref
    applicant_ref: _Ref | None = None
    channel_code: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    product: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    jurisdiction: Annotated[str, StringConstraints(pattern=r"^[A-Z0-9-]{2,16}$")] | None = None
    segment: _Text | None = None
    funded_on: Day
    amount: _Money
    currency: Currency
    term_months: Annotated[int, Field(ge=1, le=600)]
    first_due_on: Day | None = None
    final_status: Literal["paid_off", "charged_off", "cancelled"] | None = None
    closed_on: Day | None = None
    month_on_book: Annotated[int, Field(ge=0, le=600)] | None = None
    days_past_due: Annotated[int, Field(ge=0, le=36_500)] | None = None
    balance: _Money | None = None

    @model_validator(mode="after")
    def _says_a_whole_month(self) -> Self:
        if (self.month_on_book is None) != (self.days_past_due is None):
            raise ValueError("month_on_book and days_past_due are given together")
        return self


FIELDS = frozenset(BookRow.model_fields)
_NUMBERS = frozenset({"amount", "term_months", "month_on_book", "days_past_due", "balance"})
_COLUMNS = ("load_id", "number", *BookRow.model_fields)


def book_by_name() -> TableMapping:
    """Columns that are named as the fields; each that is not required may be missing. Amounts are in minor units."""
    fields: dict[str, Any] = {name: {"column": name, "optional": True} for name in FIELDS}
    for name in _NUMBERS:
        fields[name] |= {"as": "number"}
    return TableMapping.model_validate({"fields": fields})


def parse_book_mapping(text: str) -> TableMapping:
    """A mapping to the fields of a loan. Raises MappingError with every fault and its line."""
    return parse_table_mapping(text, FIELDS)


async def load_book(
    rows: Rows,
    mapper: Mapper,
    ledger: LoadLedger,
    connection: asyncpg.Connection,
    on_progress: Callable[[float], None],
    *,
    book: str,
    complete_through: date | None,
    by: str,
) -> None:
    """Copy what is not copied yet, and merge it. A loan that is loaded again is as the new file says."""
    state = ledger.state
    load_id = UUID(state.load_id)
    staged = await connection.fetchval("SELECT count(*) FROM gate.book_staging WHERE load_id = $1", load_id)
    if staged < state.staged:
        ledger.start_over()
        state, load_id = ledger.state, UUID(ledger.state.load_id)
    for chunk in _chunks(rows, mapper, ledger, state.rows):
        records = [(load_id, number, *_values(row)) for number, row in chunk.records]
        await connection.copy_records_to_table("book_staging", schema_name="gate", columns=_COLUMNS, records=records)
        state.staged += len(records)
        state.rows = chunk.number
        ledger.save()
        on_progress(chunk.done)
    merged = await connection.fetchrow(
        "SELECT loans, months, unknown FROM gate.book_merge($1, $2, $3, $4)", load_id, book, complete_through, by
    )
    state.results.update({"loans": merged["loans"], "months": merged["months"]})
    for number in merged["unknown"] or ():
        problem = RowProblem(pointer="/channel_code", detail="is not on the named list, nor an alias")
        ledger.reject(number, "unknown-channel", (problem,))
    ledger.save()
    on_progress(1.0)
    await connection.execute("VACUUM (ANALYZE) gate.book_staging, gate.book_loans, gate.book_months")


class _Chunk:
    """Rows that are copied together, and the last row of the file that they account for."""

    def __init__(self) -> None:
        self.records: list[tuple[int, BookRow]] = []
        self.number = 0
        self.done = 0.0


def _chunks(rows: Rows, mapper: Mapper, ledger: LoadLedger, done_rows: int) -> Iterator[_Chunk]:
    chunk = _Chunk()
    for row in rows:
        if row.number <= done_rows:
            continue
        chunk.number, chunk.done = row.number, row.done
        if isinstance(row.cells, Unreadable):
            ledger.reject(row.number, "unreadable-row", (RowProblem(detail=row.cells.detail),))
            continue
        try:
            chunk.records.append((row.number, BookRow.model_validate(mapper.fields(row.cells))))
        except RowRefusedError as error:
            ledger.reject(row.number, "not-mapped", error.problems)
        except ValidationError as error:
            faults = error.errors(include_url=False, include_input=False, include_context=False)
            problems = tuple(RowProblem(pointer="/" + "/".join(map(str, e["loc"])), detail=e["msg"]) for e in faults)
            ledger.reject(row.number, "invalid-loan", problems)
        if len(chunk.records) == CHUNK_ROWS:
            yield chunk
            chunk = _Chunk()
    if chunk.number:
        yield chunk


def _values(row: BookRow) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in BookRow.model_fields)
