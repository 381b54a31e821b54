"""The import itself: a window of rows in flight, accounted for in the order of the file."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from app.cli.importing.files import NumberedRow, Rows, Unreadable
from app.cli.importing.ledger import Ledger
from app.cli.importing.mapper import Application, Mapper, RowProblem, RowRefusedError
from app.cli.importing.sender import Answer, Sender

UNREADABLE, NOT_MAPPED = "unreadable-row", "not-mapped"
"""The kinds of rejects that never reach the service; the others are named by its problem."""

_SAVE_EVERY_SECONDS = 1.0
_WINDOW = 4
"""Requests that are ready or under way for each that may be under way, so that one slow answer idles nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """`batch` applications go in one request (1: no batch), `concurrency` requests at a time."""

    concurrency: int
    batch: int


def check(rows: Rows, mapper: Mapper, on_progress: Callable[[float], None]) -> tuple[int, Counter[str]]:
    """Map every row and send none: how many rows there are, and how many have which fault."""
    count, faults = 0, Counter[str]()
    for row in rows:
        count = row.number
        problems = _map(row, mapper).problems
        faults.update({f"{each.column or each.pointer or 'row'}: {each.detail}" for each in problems})
        on_progress(row.done)
    return count, faults


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mapped:
    """A row, mapped or with what is wrong with it."""

    row: NumberedRow
    application: Application | None
    kind: str = ""
    problems: tuple[RowProblem, ...] = ()


async def run(
    rows: Rows, *, mapper: Mapper, sender: Sender, ledger: Ledger, pace: Pace, on_progress: Callable[[float], None]
) -> None:
    """Send every row that the ledger has not accounted for, and account for it.

    Raises:
        CommandError: where the service stays away, the call is wrong or the file breaks; the ledger holds what is done.
    """
    in_flight: deque[tuple[list[_Mapped], asyncio.Task[list[Answer]]]] = deque()
    saved_at = time.monotonic()
    try:
        chunks = _chunks(rows, mapper, ledger.tally.rows, pace.batch)
        exhausted = False
        while True:
            while not exhausted and len(in_flight) < _WINDOW * pace.concurrency:
                chunk = next(chunks, None)
                if chunk is None:
                    exhausted = True
                else:
                    in_flight.append((chunk, asyncio.create_task(_send(chunk, sender, batch=pace.batch > 1))))
            if not in_flight:
                return
            chunk, sending = in_flight[0]
            answers = await sending
            in_flight.popleft()
            _account(chunk, answers, ledger)
            on_progress(chunk[-1].row.done)
            if time.monotonic() - saved_at >= _SAVE_EVERY_SECONDS:
                ledger.save()
                saved_at = time.monotonic()
    finally:
        for _, sending in in_flight:
            sending.cancel()
        await asyncio.gather(*(sending for _, sending in in_flight), return_exceptions=True)


def _chunks(rows: Rows, mapper: Mapper, done: int, size: int) -> Iterator[list[_Mapped]]:
    """Rows after the first `done`, mapped, by `size`."""
    chunk: list[_Mapped] = []
    for row in rows:
        if row.number <= done:
            continue
        chunk.append(_map(row, mapper))
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _map(row: NumberedRow, mapper: Mapper) -> _Mapped:
    if isinstance(row.cells, Unreadable):
        return _Mapped(row=row, application=None, kind=UNREADABLE, problems=(RowProblem(detail=row.cells.detail),))
    try:
        return _Mapped(row=row, application=mapper.application(row.cells))
    except RowRefusedError as error:
        return _Mapped(row=row, application=None, kind=NOT_MAPPED, problems=error.problems)


async def _send(chunk: list[_Mapped], sender: Sender, *, batch: bool) -> list[Answer]:
    applications = [mapped.application for mapped in chunk if mapped.application is not None]
    return await sender.send(applications, batch=batch) if applications else []


def _account(chunk: list[_Mapped], answers: list[Answer], ledger: Ledger) -> None:
    left = iter(answers)
    for mapped in chunk:
        if mapped.application is None:
            ledger.reject(mapped.row.number, mapped.kind, mapped.problems, None)
        else:
            ledger.answer(mapped.row.number, next(left), mapped.application.application_id)
