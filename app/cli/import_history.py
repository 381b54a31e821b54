"""`channel-gate import history`: the book from before the gate, for re-tiering."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from app.cli.governance import Actor
from app.cli.import_applications import app as import_app
from app.cli.import_applications import progress_bar
from app.cli.import_outcomes import ROWS_REJECTED, print_load, read_table_mapping
from app.cli.importing.book import book_by_name, load_book, parse_book_mapping
from app.cli.importing.files import FileFormat, Rows, format_of, open_rows
from app.cli.importing.ledger import fingerprint
from app.cli.importing.mapper import Mapper
from app.cli.importing.staging import LoadLedger
from app.db.engine import connect
from app.settings import read_settings


@import_app.command("history")
def import_history(  # noqa: PLR0917 (each parameter is an option of the command line)
    file: Annotated[
        Path, typer.Argument(help="CSV, NDJSON or Parquet; text may be gzipped (.gz).", exists=True, dir_okay=False)
    ],
    actor: Actor,
    book: Annotated[str, typer.Option(help="Which book it is: loan numbers are unique within one.")] = "history",
    complete_through: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="To the end of which day the book is known.")
    ] = None,
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
        Path | None, typer.Option(help="Rows that are no loans, and why. Default: FILE.rejects.ndjson.")
    ] = None,
    fail_on_rejects: Annotated[bool, typer.Option("--fail-on-rejects", help="End with 3 where rows are bad.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Load loans that no application of the gate led to, with the owner's login: loan, person, channel, product, funded
    date, amount, term, first due date, segment at origination, and the status by month or the final one.

    A loan that is loaded again is as the new file says.
    """
    parsed = book_by_name() if mapping is None else read_table_mapping(mapping, parse_book_mapping)
    chosen = file_format or format_of(file)
    with ExitStack() as opened:
        ledger = opened.enter_context(
            LoadLedger(
                state_path=state or file.with_name(file.name + ".load.json"),
                rejects_path=rejects or file.with_name(file.name + ".rejects.ndjson"),
                input_fingerprint=fingerprint(file, repr(parsed), book),
                resume=resume,
            )
        )
        rows: Rows = opened.enter_context(open_rows(file, chosen, parsed.file, parsed.columns))
        bar = opened.enter_context(progress_bar(file.name))

        async def work() -> None:
            connection = await connect(read_settings().owner_url(), purpose="import")
            try:
                through = None if complete_through is None else complete_through.date()
                await load_book(
                    *(rows, Mapper(parsed), ledger, connection, bar), book=book, complete_through=through, by=actor
                )
            finally:
                await connection.close()

        asyncio.run(work())
    print_load(ledger, as_json=as_json)
    if fail_on_rejects and ledger.state.rejects:
        raise typer.Exit(ROWS_REJECTED)
