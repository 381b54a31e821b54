"""`channel-gate import outcomes`: what became of applications, from a file, straight into the database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import asyncpg
import typer

from app.cli.errors import CommandError
from app.cli.governance import Actor
from app.cli.import_applications import app as import_app
from app.cli.import_applications import progress_bar
from app.cli.importing.files import FileFormat, format_of, open_lines, open_rows
from app.cli.importing.ledger import fingerprint
from app.cli.importing.mapper import Mapper
from app.cli.importing.mapping import MappingError, TableMapping
from app.cli.importing.outcomes import Read, load, mapping_by_name, parse_outcome_mapping, read_lines, read_mapped
from app.cli.importing.staging import LoadLedger
from app.db.engine import connect
from app.settings import read_settings

ROWS_REJECTED = 3
"""The exit code where rows were rejected and that was not wanted."""


@import_app.command("outcomes")
def import_outcomes(  # noqa: PLR0917 (each parameter is an option of the command line)
    file: Annotated[
        Path, typer.Argument(help="NDJSON, CSV or Parquet; text may be gzipped (.gz).", exists=True, dir_okay=False)
    ],
    originator: Annotated[str, typer.Option(help="Whose applications they are: its code.")],
    actor: Actor,
    mapping: Annotated[
        Path | None,
        typer.Option(help="YAML or JSON: columns to fields. Default: columns are named as fields.", exists=True),
    ] = None,
    file_format: Annotated[
        FileFormat | None, typer.Option("--format", help="Where the file's name does not say it.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the load stopped.")] = False,
    state: Annotated[Path | None, typer.Option(help="State file. Default: FILE.load.json.")] = None,
    rejects: Annotated[
        Path | None, typer.Option(help="Rows that are no events, and why. Default: FILE.rejects.ndjson.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=8, help="Slots that are merged at a time.")] = 2,
    fail_on_rejects: Annotated[bool, typer.Option("--fail-on-rejects", help="End with 3 where rows are bad.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Load outcome events with the owner's login. An event counts once, so a load may be stopped, killed, resumed or
    repeated at any time. A row that is no event goes to the rejects file with the reason, and the others go on.
    """
    chosen = file_format or format_of(file)
    parsed = _mapping(mapping)
    url = read_settings().owner_url()
    with ExitStack() as opened:
        ledger = opened.enter_context(
            LoadLedger(
                state_path=state or file.with_name(file.name + ".load.json"),
                rejects_path=rejects or file.with_name(file.name + ".rejects.ndjson"),
                input_fingerprint=fingerprint(file, repr(parsed), originator),
                resume=resume,
            )
        )
        bar = opened.enter_context(progress_bar(file.name))

        def on_progress(phase: str, done: float) -> None:
            bar(done / 2 if phase == "copy" else 0.5 + done / 2)

        async def owner() -> asyncpg.Connection:
            return await connect(url, purpose="import")

        events = _events(file, chosen, mapping, parsed, opened)
        asyncio.run(load(events, ledger, owner, on_progress, originator=originator, by=actor, jobs=jobs))
    print_load(ledger, as_json=as_json)
    if fail_on_rejects and ledger.state.rejects:
        raise typer.Exit(ROWS_REJECTED)


def print_load(ledger: LoadLedger, *, as_json: bool) -> None:
    """Say what came out of a load."""
    document = ledger.state.document()
    if as_json:
        typer.echo(json.dumps(document))
        return
    results = ", ".join(f"{count:,} {name}" for name, count in ledger.state.results.items())
    rejects = ", ".join(f"{count:,} {kind}" for kind, count in ledger.state.rejects.most_common())
    typer.echo(f"{document['rows']:,} rows: {results or 'nothing new'}; {rejects or 'none'} in the rejects file")


def read_table_mapping(path: Path, parse: Callable[[str], TableMapping]) -> TableMapping:
    """The mapping of a file.

    Raises:
        CommandError: where it is none; its faults are on standard error.
    """
    try:
        return parse(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise CommandError(f"{path.name} is not UTF-8") from None
    except MappingError as error:
        for fault in error.faults:
            typer.echo(f"{path.name}: {fault}", err=True)
        raise CommandError(f"{path.name} cannot be used as a mapping") from None


def _mapping(path: Path | None) -> TableMapping:
    return mapping_by_name() if path is None else read_table_mapping(path, parse_outcome_mapping)


def _events(
    file: Path, chosen: FileFormat, mapping: Path | None, parsed: TableMapping, opened: ExitStack
) -> Iterator[Read]:
    if chosen is FileFormat.NDJSON and mapping is None:
        return read_lines(open_lines(file, opened))
    rows = opened.enter_context(open_rows(file, chosen, parsed.file, parsed.columns))
    return read_mapped(rows, Mapper(parsed))
