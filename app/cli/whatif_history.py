"""Past applications from a file, mapped as `channel-gate import` maps them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from app.cli.errors import CommandError
from app.cli.importing.files import Rows, Unreadable, format_of, open_rows
from app.cli.importing.mapper import Mapper, Row, RowRefusedError
from app.cli.importing.mapping import ImportMapping, MappingError, parse_mapping
from app.cli.importing.run import NOT_MAPPED, UNREADABLE
from app.cli.importing.sources import KeyedHash
from app.screening.payload import PAYLOAD

if TYPE_CHECKING:
    from app.whatif.extract import Selection
    from app.whatif.history import History, PastRequest, Place


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownColumn:
    """A column of the file that is no part of a request, and what its texts mean; others mean nothing."""

    name: str
    meanings: Mapping[str, str]

    def meaning(self, cells: Row) -> str | None:
        """What a row's cell means."""
        text = cells.get(self.name)
        return None if text is None else self.meanings.get(text.strip())


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What the file knows besides the requests."""

    recorded: KnownColumn | None
    repaid: KnownColumn | None

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that the file must have for it."""
        return tuple(each.name for each in (self.recorded, self.repaid) if each is not None)


@contextmanager
def history(
    file: Path,
    mapping_file: Path,
    *,
    places: Mapping[str, Place] | None,
    columns: Columns,
    at: datetime,
    selection: Selection,
) -> Iterator[History]:
    """The file's rows as a source, in bounded memory.

    Raises:
        CommandError: where the file or its mapping cannot be used.
    """
    from app.whatif.history import History

    mapping, mapper = _read_mapping(mapping_file)
    try:
        described = {"file": file.name, "file_digest": _digest(file), "mapping_digest": _digest(mapping_file)}
    except OSError as error:
        raise CommandError(f"{error.filename}: {error.strerror or type(error).__name__}") from None
    with open_rows(file, format_of(file), mapping.file, (*mapping.columns, *columns.names)) as rows:
        yield History(
            _requests(rows, mapper, columns),
            attributes=_attributes(mapping),
            at=at,
            places=places,
            selection=selection,
            described={**described, "moment_of_rows_without_one": at.isoformat()},
        )


def _requests(rows: Rows, mapper: Mapper, columns: Columns) -> Iterator[PastRequest | str]:
    from app.whatif.history import PastRequest

    for row in rows:
        if isinstance(row.cells, Unreadable):
            yield UNREADABLE
            continue
        try:
            application = mapper.application(row.cells)
        except RowRefusedError:
            yield NOT_MAPPED
            continue
        repaid = None if columns.repaid is None else columns.repaid.meaning(row.cells)
        yield PastRequest(
            payload=PAYLOAD.validate_json(application.body),
            outcome=None if columns.recorded is None else columns.recorded.meaning(row.cells),
            repaid=None if repaid is None else repaid == "yes",
        )


def _attributes(mapping: ImportMapping) -> tuple[str, ...]:
    """Every attribute that a mapped row can have, in a value or only by name."""
    return tuple(mapping.attributes)


def _read_mapping(path: Path) -> tuple[ImportMapping, Mapper]:
    try:
        parsed = parse_mapping(path.read_text(encoding="utf-8"))
        sources = (*parsed.fields.values(), *parsed.attributes.values())
        variables = {source.key_from for source in sources if isinstance(source, KeyedHash)}
        return parsed, Mapper(parsed, {name: os.environ.get(name, "").encode() for name in variables})
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror or type(error).__name__}") from None
    except UnicodeDecodeError:
        raise CommandError(f"{path.name} is not UTF-8") from None
    except MappingError as error:
        for fault in error.faults:
            typer.echo(f"{path.name}: {fault}", err=True)
        raise CommandError(f"{path.name} cannot be used as a mapping") from None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
