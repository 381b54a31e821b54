"""`channel-gate import applications`: send a file of applications to the service and account for each row."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from typer.core import TyperGroup

from app.cli.errors import CommandError
from app.cli.importing.files import FileFormat, Rows, format_of, open_rows
from app.cli.importing.ledger import Ledger, Tally, fingerprint
from app.cli.importing.mapper import Mapper
from app.cli.importing.mapping import ImportMapping, MappingError, parse_mapping
from app.cli.importing.run import Pace, check, run
from app.cli.importing.sender import Sender
from app.cli.importing.sources import KeyedHash
from app.cli.importing.summary import summary


class _ApplicationsByDefault(TyperGroup):
    """`import FILE` means `import applications FILE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Name the command where the first argument is none."""
        if args and args[0] not in {*self.commands, *ctx.help_option_names}:
            args = ["applications", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="import",
    cls=_ApplicationsByDefault,
    help="Bring files in: applications (also as `import FILE`), their outcomes, the book from before the gate.",
    no_args_is_help=True,
)

ROWS_FAILED = 3
"""The exit code where the service failed on rows although they were sent again, or where rejects were not wanted."""

_REQUEST_TIMEOUT_SECONDS = 30.0
_PIPE_WIDTH = 120


@app.command("applications")
def import_applications(  # noqa: PLR0917 (each parameter is an option of the command line)
    file: Annotated[
        Path, typer.Argument(help="CSV, NDJSON or Parquet; text may be gzipped (.gz).", exists=True, dir_okay=False)
    ],
    mapping: Annotated[Path, typer.Option(help="YAML or JSON: columns to fields.", exists=True, dir_okay=False)],
    key: Annotated[str, typer.Option(envvar="CHANNEL_GATE_KEY", help="API key with the role origination.")] = "",
    url: Annotated[
        str, typer.Option(envvar="CHANNEL_GATE_URL", help="Address of the service.")
    ] = "http://127.0.0.1:8000",
    file_format: Annotated[
        FileFormat | None, typer.Option("--format", help="Where the file's name does not say it.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after the last row that is accounted for.")] = False,
    state: Annotated[Path | None, typer.Option(help="State file. Default: FILE.import.json.")] = None,
    rejects: Annotated[
        Path | None, typer.Option(help="Rows without a decision, and why. Default: FILE.rejects.ndjson.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Requests at a time.")] = 4,
    batch: Annotated[
        int, typer.Option(min=1, max=1_000, help="Applications in one request; 1: each by a request of its own.")
    ] = 100,
    patience_seconds: Annotated[
        float, typer.Option(min=0, help="How long nothing may get through before the import stops.")
    ] = 300,
    fail_on_rejects: Annotated[
        bool, typer.Option("--fail-on-rejects", help="End with 3 where any row was rejected.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Map and check every row; send nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Import applications: every row gets a decision, or a line in the rejects file that says why it has none.

    Decisions are made once, so an import may be stopped, killed, resumed or repeated at any time. Ends with 0 when
    every row is accounted for, with 1 when it cannot go on, with 3 when the service failed on rows.
    """
    parsed, mapper = _read_mapping(mapping)
    chosen = file_format or format_of(file)
    if dry_run:
        with open_rows(file, chosen, parsed.file, parsed.columns) as rows, progress_bar(file.name) as on_progress:
            count, faults = check(rows, mapper, on_progress)
        _print_check(count, faults, as_json=as_json)
        return
    if not key:
        raise CommandError("no API key: set CHANNEL_GATE_KEY or say --key")
    ledger = Ledger(
        state_path=state or file.with_name(file.name + ".import.json"),
        rejects_path=rejects or file.with_name(file.name + ".rejects.ndjson"),
        input_fingerprint=fingerprint(file, repr(parsed), url),
        resume=resume,
    )
    pace = Pace(concurrency=concurrency, batch=batch)
    with (
        ledger,
        open_rows(file, chosen, parsed.file, parsed.columns) as rows,
        progress_bar(file.name) as on_progress,
    ):
        sending = _send_all(
            rows, mapper, ledger, pace, on_progress, url=url, key=key, patience_seconds=patience_seconds
        )
        asyncio.run(sending)
    _print_result(ledger.tally, file.name, as_json=as_json)
    if ledger.tally.failed or (fail_on_rejects and ledger.tally.rejected):
        raise typer.Exit(ROWS_FAILED)


async def _send_all(
    rows: Rows,
    mapper: Mapper,
    ledger: Ledger,
    pace: Pace,
    on_progress: Callable[[float], None],
    *,
    url: str,
    key: str,
    patience_seconds: float,
) -> None:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise CommandError("--url must be an http or https address")
    trust_env = parts.hostname not in {"127.0.0.1", "localhost", "::1"}  # no proxy stands before this machine
    open_client = partial(
        httpx.AsyncClient,
        base_url=url,
        headers={"Authorization": f"Bearer {key}"},
        limits=httpx.Limits(max_connections=1),
        timeout=_REQUEST_TIMEOUT_SECONDS,
        trust_env=trust_env,
        verify=httpx.create_ssl_context(trust_env=trust_env),
    )
    async with AsyncExitStack() as opened:
        clients = [await opened.enter_async_context(open_client()) for _ in range(pace.concurrency)]
        sender = Sender(clients, patience_seconds=patience_seconds)
        await run(rows, mapper=mapper, sender=sender, ledger=ledger, pace=pace, on_progress=on_progress)


def _read_mapping(path: Path) -> tuple[ImportMapping, Mapper]:
    try:
        parsed = parse_mapping(path.read_text(encoding="utf-8"))
        sources = (*parsed.fields.values(), *parsed.attributes.values())
        variables = {source.key_from for source in sources if isinstance(source, KeyedHash)}
        return parsed, Mapper(parsed, {name: os.environ.get(name, "").encode() for name in variables})
    except UnicodeDecodeError:
        raise CommandError(f"{path.name} is not UTF-8") from None
    except MappingError as error:
        for fault in error.faults:
            typer.echo(f"{path.name}: {fault}", err=True)
        raise CommandError(f"{path.name} cannot be used as a mapping") from None


@contextmanager
def progress_bar(name: str) -> Iterator[Callable[[float], None]]:
    """A bar on standard error, where that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=1.0)
        yield lambda done: bar.update(task, completed=done)


def _print_result(tally: Tally, title: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(tally.document(), ensure_ascii=False, indent=2))
    else:
        Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH).print(summary(tally, title))


def _print_check(count: int, faults: dict[str, int], *, as_json: bool) -> None:
    ranked = dict(sorted(faults.items(), key=lambda item: -item[1]))
    if as_json:
        typer.echo(json.dumps({"rows": count, "faults": ranked}, ensure_ascii=False, indent=2))
        return
    typer.echo(f"{count:,} rows")
    for fault, rows in ranked.items():
        typer.echo(f"{rows:>9,}  {fault}")
