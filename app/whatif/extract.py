"""The columnar extract of the log: a Parquet file for each day and retention class, and an index of them.

The directory holds applicants' data: it is made for its owner alone, and so is every file. What stands in the index is
compared with the log by `app.whatif.reconcile`; this module only reads and writes files.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import BinaryIO, Final
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from app.domain.canonical import Json, canonical_bytes, digest, instant_text
from app.whatif.packing import microseconds
from app.whatif.run import BATCH_ROWS
from app.whatif.schema import CONTEXT_COLUMNS, layout_digest
from app.whatif.tables import combined

_INDEX = "index.json"
_LOCK = ".lock"
_COMPRESSION: Final = "zstd"


class ExtractError(Exception):
    """The extract cannot be used; says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DayFile:
    """One day of one retention class in the extract.

    `log_digest` is made of the day's hours as the journal's digest is, but for the chain. `audit_sequence` is how far
    the audit log had come before the day was read: an erasure after it may concern this day.
    """

    retention_class: str
    day: str
    decisions: int
    erased: int
    unreadable: int
    log_digest: str
    audit_sequence: int
    file_digest: str

    @property
    def name(self) -> str:
        """The file's name in the directory."""
        return f"{self.retention_class}-{self.day}.parquet"


class ExtractDirectory:
    """The files and their index. Whoever changes them holds the lock."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the directory, for its owner alone, and keep others from changing it.

        Raises:
            ExtractError: where someone else may read it, or is changing it.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.path.stat().st_mode & 0o077:
            raise ExtractError(f"{self.path} holds applicants' data: others must have no access to it (chmod 700)")
        with _private(self.path / _LOCK) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ExtractError(f"another process is at work on {self.path}") from None
            yield

    def index(self) -> dict[tuple[str, str], DayFile]:
        """The days by class and day; none where the index was written by a version with another layout."""
        try:
            stored = json.loads((self.path / _INDEX).read_text(encoding="utf-8"))
            days = [DayFile(**each) for each in stored["days"]]
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError):
            return {}  # cut off or of another version: the days are read anew
        if stored.get("layout") != layout_digest():
            return {}
        return {(each.retention_class, each.day): each for each in days}

    def write_index(self, days: Mapping[tuple[str, str], DayFile]) -> None:
        """Replace the index, and remove the files that it does not name."""
        content = {"layout": layout_digest(), "days": [asdict(days[key]) for key in sorted(days)]}
        temporary = self.path / f"{_INDEX}.new"
        with _private(temporary) as file:
            file.write(json.dumps(content).encode())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path / _INDEX)
        named = {each.name for each in days.values()}
        for file_path in [*self.path.glob("*.parquet"), *self.path.glob("*.parquet.new")]:
            if file_path.name not in named:
                file_path.unlink()

    def is_whole(self, day: DayFile) -> bool:
        """Whether the day's file is there and is what was written."""
        path = self.path / day.name
        return path.is_file() and _file_digest(path) == day.file_digest

    @contextmanager
    def writer(self, name: str, schema: pa.Schema) -> Iterator[Callable[[pa.RecordBatch], None]]:
        """Write a file of this name; it takes the place of another only when it is whole."""
        temporary = self.path / f"{name}.new"
        with _private(temporary) as file:
            with pq.ParquetWriter(file, schema, compression=_COMPRESSION) as parquet:
                yield lambda batch: parquet.write_batch(batch, row_group_size=BATCH_ROWS)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path / name)

    def digest_of(self, name: str) -> str:
        """The digest of a file."""
        return _file_digest(self.path / name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which decisions: a half-open period [decided_from, decided_to), and channels by code. None: all of them."""

    decided_from: datetime | None = None
    decided_to: datetime | None = None
    channels: frozenset[str] | None = None

    def mask(self, table: pa.Table) -> pa.ChunkedArray:
        """The rows of a table that are wanted."""
        wanted = pc.is_valid(table["decided_at"])
        if self.decided_from is not None:
            wanted = pc.and_(wanted, pc.greater_equal(table["decided_at"], microseconds(self.decided_from)))
        if self.decided_to is not None:
            wanted = pc.and_(wanted, pc.less(table["decided_at"], microseconds(self.decided_to)))
        if self.channels is not None:
            codes = table["channel_code"].cast(pa.string())
            wanted = pc.and_(wanted, pc.is_in(codes, pa.array(sorted(self.channels), pa.string())))
        return wanted

    def may_hold(self, day: date) -> bool:
        """Whether a day (UTC) has a part in the period."""
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        ends_before = self.decided_from is not None and day < self.decided_from.astimezone(UTC).date()
        return not ends_before and (self.decided_to is None or start < self.decided_to)

    def document(self) -> dict[str, Json]:
        """As a report states it."""
        return {
            "from": None if self.decided_from is None else instant_text(self.decided_from),
            "to": None if self.decided_to is None else instant_text(self.decided_to),
            "channels": None if self.channels is None else list[Json](sorted(self.channels)),
        }


class LogExtract:
    """Days of the extract as the source of a what-if. Made by `app.whatif.reconcile`, which vouches for them."""

    def __init__(self, directory: Path, days: Collection[DayFile], selection: Selection) -> None:
        self._directory = directory
        self._days = sorted(days, key=lambda each: (each.day, each.retention_class))
        self._selection = selection
        self._read = self._erased = self._unreadable = 0

    @property
    def rows(self) -> int:
        """How many decisions the days hold, wanted or not."""
        return sum(each.decisions for each in self._days)

    @property
    def days(self) -> int:
        """On how many days they were made."""
        return len({each.day for each in self._days})

    def batches(self, columns: frozenset[str]) -> Iterator[pa.RecordBatch]:
        """The wanted decisions that hold a request, a day after the other; days that are small come together."""
        self._read = self._erased = self._unreadable = 0
        gathered: list[pa.Table] = []
        for day in self._days:
            for table in self._tables(day, columns):
                gathered.append(self._wanted(table))
                if sum(each.num_rows for each in gathered) >= BATCH_ROWS:
                    yield from combined(gathered)
                    gathered = []
        yield from combined(gathered)

    def document(self) -> dict[str, Json]:
        """What was read. `digest` is of the days as the log has them, whatever the files look like."""
        days: list[Json] = [
            [each.retention_class, each.day, each.decisions, each.erased, each.log_digest] for each in self._days
        ]
        return {
            "kind": "log",
            **self._selection.document(),
            "decisions": self._read,
            "erased": self._erased,
            "unreadable": self._unreadable,
            "days": self.days,
            "digest": digest(canonical_bytes(days)).hex(),
        }

    def show_id(self, row_id: bytes) -> str:
        """The decision's id."""
        return str(UUID(bytes=row_id))

    def _tables(self, day: DayFile, columns: frozenset[str]) -> Iterator[pa.Table]:
        file = pq.ParquetFile(self._directory / day.name, memory_map=True)
        names = file.schema_arrow.names
        wanted = [
            name for name in names if name in CONTEXT_COLUMNS or name in columns or name.startswith("attributes.")
        ]
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=wanted)

    def _wanted(self, table: pa.Table) -> pa.Table:
        selection = self._selection
        if selection != Selection():
            table = table.filter(selection.mask(table))
        self._read += table.num_rows
        if pc.all(table["readable"]).as_py() in {True, None}:
            return table
        erased = pc.sum(table["erased"]).as_py() or 0
        readable = table.filter(table["readable"])
        self._erased += erased
        self._unreadable += table.num_rows - readable.num_rows - erased
        return readable


def _private(path: Path) -> BinaryIO:
    """A new file that its owner alone may read."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
