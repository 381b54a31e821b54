"""Reads applications from CSV, NDJSON or Parquet, also gzipped, in bounded memory: text cells, numbered rows.

Rows count from 1, without the header. A row that cannot be read is one too: it is told apart, not fatal.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, TypeAlias, cast

from app.cli.errors import CommandError
from app.cli.importing.mapper import Row
from app.cli.importing.mapping import FileOptions
from app.extras import how_to_install

MAX_CELL_CHARACTERS = 131_072
_MAX_LINE_BYTES = 1_048_576
_PARQUET_BATCH_ROWS = 1_024
_PROGRESS_LINES = 1_000
_BROKEN = (OSError, EOFError, zlib.error)


class FileFormat(StrEnum):
    """How the rows are written."""

    CSV = "csv"
    NDJSON = "ndjson"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A row that is not one, and why."""

    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberedRow:
    """A row and its number, from 1. `done` is how much of the file lies behind it, from 0 to 1."""

    number: int
    cells: Row | Unreadable
    done: float


Rows: TypeAlias = Iterator[NumberedRow]

_SUFFIXES = {
    ".csv": FileFormat.CSV,
    ".ndjson": FileFormat.NDJSON,
    ".jsonl": FileFormat.NDJSON,
    ".parquet": FileFormat.PARQUET,
}


def format_of(path: Path) -> FileFormat:
    """The format that the file's name says.

    Raises:
        CommandError: where it says none.
    """
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    try:
        return _SUFFIXES[suffix.lower()]
    except KeyError:
        raise CommandError(f"{path.name} is no .csv, .ndjson, .jsonl or .parquet; say --format") from None


@contextmanager
def open_rows(path: Path, file_format: FileFormat, options: FileOptions, required: tuple[str, ...]) -> Iterator[Rows]:
    """The rows of a file that has the `required` columns, as far as its format says which columns there are.

    Raises:
        CommandError: where the file cannot be read at all or lacks a column.
    """
    reader = {FileFormat.CSV: _csv, FileFormat.NDJSON: _ndjson, FileFormat.PARQUET: _parquet}[file_format]
    with ExitStack() as opened:
        yield reader(path, opened, options, required)


def _csv(path: Path, opened: ExitStack, options: FileOptions, required: tuple[str, ...]) -> Rows:
    stream, progress = _decompressed(path, opened)
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    text = io.TextIOWrapper(stream, encoding=options.encoding, errors="surrogateescape", newline="")
    lines = csv.reader(opened.enter_context(text), delimiter=options.delimiter, strict=True)
    try:
        header = [name.strip() for name in next(lines)]
    except StopIteration:
        raise CommandError(f"{path.name} is empty") from None
    except (csv.Error, *_BROKEN) as error:
        raise CommandError(f"{path.name} cannot be read: {error}") from None
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise CommandError(f"{path.name} has the column {', '.join(twice)} twice")
    _check_columns(path, header, required)
    return _csv_rows(path, lines, header, progress)


def _csv_rows(path: Path, lines: Iterator[list[str]], header: list[str], progress: Callable[[], float]) -> Rows:
    number = 0
    while True:
        cells: Row | Unreadable
        try:
            texts = next(lines)
        except StopIteration:
            return
        except csv.Error as error:
            cells = Unreadable(detail=f"is not CSV: {error}")
        except _BROKEN as error:
            raise CommandError(f"{path.name} is broken after row {number}: {error}") from None
        else:
            if not texts:
                continue
            if len(texts) != len(header):
                cells = Unreadable(detail=f"has {len(texts)} cells where the header has {len(header)}")
            else:
                cells = dict(zip(header, texts, strict=True))
        number += 1
        yield NumberedRow(number=number, cells=cells, done=progress())


def _ndjson(path: Path, opened: ExitStack, options: FileOptions, required: tuple[str, ...]) -> Rows:
    del options, required  # each line says for itself which columns it has
    stream, progress = _decompressed(path, opened)
    number = 0
    while True:
        try:
            line = stream.readline(_MAX_LINE_BYTES)
        except _BROKEN as error:
            raise CommandError(f"{path.name} is broken after row {number}: {error}") from None
        if not line:
            return
        if not line.endswith(b"\n") and len(line) == _MAX_LINE_BYTES:
            while (rest := stream.readline(_MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
            cells: Row | Unreadable = Unreadable(detail=f"is longer than {_MAX_LINE_BYTES} bytes")
        elif not line.strip():
            continue
        else:
            cells = _object(line)
        number += 1
        yield NumberedRow(number=number, cells=cells, done=progress())


def open_lines(path: Path, opened: ExitStack) -> Iterator[tuple[int, bytes, float]]:
    """The lines of a text that are not blank, numbered from 1, with how much of the file lies behind each.

    Raises:
        CommandError: where the file breaks.
    """
    stream, progress = _decompressed(path, opened)
    number = 0
    try:
        for line in stream:
            if not line.isspace():
                number += 1
                yield number, line, progress() if number % _PROGRESS_LINES == 0 else 0.0
    except _BROKEN as error:
        raise CommandError(f"{path.name} is broken after row {number}: {error}") from None


def _object(line: bytes) -> Row | Unreadable:
    try:
        document = json.loads(line, parse_float=_decimal, parse_int=_decimal, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return Unreadable(detail="is not JSON")
    if not isinstance(document, dict):
        return Unreadable(detail="is not a JSON object")
    cells: dict[str, str | None] = {}
    try:
        _flatten("", document, cells)
    except ValueError as error:
        return Unreadable(detail=str(error))
    except RecursionError:
        return Unreadable(detail="is nested too deeply")
    return cells


def _flatten(prefix: str, value: Mapping[str, object], cells: dict[str, str | None]) -> None:
    """Nested objects become columns named by their path."""
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping):
            _flatten(f"{name}.", item, cells)
        elif isinstance(item, list):
            raise ValueError("holds an array, which is no cell")
        else:
            cells[name] = _text(item)


def _decimal(text: str) -> Decimal:
    if len(text) > 64:
        raise ValueError("is not a number that is taken")
    return Decimal(text)


def _refuse_constant(_: str) -> None:
    raise ValueError("NaN and Infinity are not JSON")


def _parquet(path: Path, opened: ExitStack, options: FileOptions, required: tuple[str, ...]) -> Rows:
    del options
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise CommandError(f"Parquet needs the extra: {how_to_install('parquet')}") from None
    try:
        file = pq.ParquetFile(opened.enter_context(path.open("rb")))
    except (pa.ArrowException, OSError) as error:
        raise CommandError(f"{path.name} cannot be read: {str(error).partition(chr(10))[0]}") from None
    _check_columns(path, file.schema_arrow.names, required)

    def rows() -> Rows:
        total, number = max(file.metadata.num_rows, 1), 0
        try:
            for batch in file.iter_batches(batch_size=_PARQUET_BATCH_ROWS):
                for values in batch.to_pylist():
                    number += 1
                    yield NumberedRow(number=number, cells=_typed_cells(values), done=number / total)
        except (pa.ArrowException, OSError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise CommandError(f"{path.name} is broken after row {number}: {reason}") from None

    return rows()


def _typed_cells(values: Mapping[str, object]) -> Row | Unreadable:
    cells: dict[str, str | None] = {}
    try:
        for name, value in values.items():
            if isinstance(value, Mapping):
                _flatten(f"{name}.", value, cells)
            else:
                cells[name] = _text(value)
    except ValueError as error:
        return Unreadable(detail=str(error))
    return cells


def _text(value: object) -> str | None:
    """A typed value as the text that conversions read. A binary float is its shortest decimal text."""
    match value:
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case float():
            return format(Decimal(repr(value)), "f") if math.isfinite(value) else None
        case int() | Decimal():
            return str(value)
        case datetime() | date():
            return value.isoformat()
        case _:
            raise ValueError(f"holds a {type(value).__name__}, which is no cell")


def _check_columns(path: Path, columns: list[str], required: tuple[str, ...]) -> None:
    missing = [name for name in required if name not in columns]
    if missing:
        raise CommandError(f"{path.name} has no column {', '.join(missing)}, which the mapping names")


def _decompressed(path: Path, opened: ExitStack) -> tuple[BinaryIO, Callable[[], float]]:
    """The file's content, and how far the file itself has been read, from 0 to 1."""
    size = max(path.stat().st_size, 1)
    raw = opened.enter_context(path.open("rb"))

    def progress() -> float:
        return min(raw.tell() / size, 1.0)

    if path.suffix == ".gz":
        return io.BufferedReader(cast("io.RawIOBase", gzip.GzipFile(fileobj=raw))), progress
    return raw, progress
