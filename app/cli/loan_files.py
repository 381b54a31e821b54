"""Loans from a CSV file, as columns to count."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from app.cli.errors import CommandError

if TYPE_CHECKING:
    from app.tiering.loans import LoanBook

COLUMNS: Final = ("channel", "segment", "funded_month", "event_month", "exit_month", "amount_minor")
"""`funded_month` is written as 2026-11; `event_month` and `exit_month` are months on book, blank without one."""

_MONTH: Final = re.compile(r"(\d{4})-(\d{2})")
_WHOLE: Final = re.compile(r"\d{1,15}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoanFile:
    """A book with the names that its positions stand for."""

    book: LoanBook
    channels: tuple[str, ...]
    segments: tuple[str, ...]


def month_of(text: str) -> int:
    """A calendar month written as 2026-11.

    Raises:
        CommandError: where it is none.
    """
    from app.tiering.loans import month_number

    found = _MONTH.fullmatch(text.strip())
    if found is None or not 1 <= int(found[2]) <= 12:
        raise CommandError(f"{text[:20]!r} is no month such as 2026-11")
    return month_number(int(found[1]), int(found[2]))


def read_loans(file: Path) -> LoanFile:
    """The loans of a CSV file with at least the columns of `COLUMNS`.

    Raises:
        CommandError: for a missing column, or the first cell that cannot be read, by its line.
    """
    import numpy as np

    from app.tiering.loans import loan_book

    with file.open(encoding="utf-8-sig", newline="") as opened:
        reader = csv.DictReader(opened)
        missing = set(COLUMNS) - set(reader.fieldnames or ())
        if missing:
            raise CommandError(f"{file}: there is no column {', '.join(sorted(missing))}")
        rows = [_row(file, reader.line_num, cells) for cells in reader]
    if not rows:
        raise CommandError(f"{file}: there is no loan in it")
    channels, segments = tuple(sorted({row[0] for row in rows})), tuple(sorted({row[1] for row in rows}))
    channel_of, segment_of = ({name: place for place, name in enumerate(names)} for names in (channels, segments))
    numbers = np.array([row[2:] for row in rows], np.int64)
    return LoanFile(
        book=loan_book(
            unit=np.array([channel_of[row[0]] for row in rows], np.int64),
            segment=np.array([segment_of[row[1]] for row in rows], np.int64),
            funded_month=numbers[:, 0],
            event_month=numbers[:, 1],
            exit_month=numbers[:, 2],
            amount=numbers[:, 3],
        ),
        channels=channels,
        segments=segments,
    )


def _row(file: Path, line: int, cells: Mapping[str, str | None]) -> tuple[str, str, int, int, int, int]:
    def whole(name: str) -> int:
        text = (cells[name] or "").strip()
        if text and not _WHOLE.fullmatch(text):
            raise CommandError(f"{file}, line {line}: {name} must be a whole number of 0 or more, or blank")
        return int(text or 0)

    channel, segment = ((cells[name] or "").strip() for name in ("channel", "segment"))
    if not channel or not segment:
        raise CommandError(f"{file}, line {line}: channel and segment must be given")
    try:
        funded = month_of(cells["funded_month"] or "")
    except CommandError as error:
        raise CommandError(f"{file}, line {line}: funded_month: {error}") from None
    return channel, segment, funded, whole("event_month"), whole("exit_month"), whole("amount_minor")
