"""`channel-gate whatif` and `channel-gate extract`: what a draft policy would have decided, and the columns for it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer
import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy.ext.asyncio import AsyncConnection

from app.cli.errors import CommandError
from app.cli.governance import governed
from app.cli.policy import compiled_reference
from app.cli.whatif_history import Columns, KnownColumn, history
from app.cli.whatif_table import print_report
from app.domain.canonical import parse_instant
from app.domain.channel import ChannelState
from app.domain.compiled import CompiledPolicy
from app.extras import how_to_install
from app.settings import read_settings

if TYPE_CHECKING:
    from app.whatif.economics import Economics
    from app.whatif.extract import LogExtract, Selection
    from app.whatif.history import Place
    from app.whatif.report import Report
    from app.whatif.run import Source

app = typer.Typer()

_PIPE_WIDTH = 140
_POLICY = "A policy's file, the number of a published version, or `active`."

Since = Annotated[str | None, typer.Option("--from", help="Decided at or after: a date or an instant (UTC).")]
Until = Annotated[str | None, typer.Option("--to", help="Decided before: a date or an instant (UTC).")]
Channels = Annotated[list[str] | None, typer.Option("--channel", help="Code of a channel; again for more.")]
Probabilities = Annotated[Path | None, typer.Option("--pd", help="YAML or JSON: probabilities of default by band.")]
LossPct = Annotated[int, typer.Option("--lgd-pct", min=0, max=100, help="Loss given default, in percent.")]
ExposurePct = Annotated[
    int, typer.Option("--ead-pct", min=0, max=100, help="Exposure at default, in percent of the amount.")
]
Reviewers = Annotated[
    int | None, typer.Option("--reviewers", min=0, help="How many there are, to compare escalations with.")
]
Directory = Annotated[
    Path | None, typer.Option("--extract", help="Folder of the log's extract. Default: GATE_EXTRACT_DIRECTORY.")
]


@app.command("whatif")
def whatif(
    draft: Annotated[str, typer.Argument(help=_POLICY)],
    *,
    against: Annotated[str, typer.Option(help="`log`, or a CSV, NDJSON or Parquet file of past applications.")],
    mapping: Annotated[Path | None, typer.Option(help="For a file: its columns to fields (see `import`).")] = None,
    channels: Annotated[Path | None, typer.Option(help="For a file: YAML of its channels' states and tiers.")] = None,
    recorded: Annotated[
        str | None, typer.Option(help="For a file: the column of what was decided, as COLUMN:accept=TEXT,reject=TEXT.")
    ] = None,
    repaid: Annotated[
        str | None, typer.Option(help="For a file: the column of what became of it, as COLUMN:yes=TEXT,no=TEXT.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="For a file: the moment of rows that name none. Default: today.")
    ] = None,
    baseline: Annotated[str | None, typer.Option(help=f"Compare with this policy. {_POLICY}")] = None,
    since: Since = None,
    until: Until = None,
    channel: Channels = None,
    pd: Probabilities = None,
    lgd_pct: LossPct = 65,
    ead_pct: ExposurePct = 75,
    reviewers: Reviewers = None,
    extract: Directory = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the report's canonical JSON here.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print report, digest and measurements as JSON.")] = False,
) -> None:
    """Decide past applications again under DRAFT, and report what changes. Nothing is stored and no decision is made.

    Against `log`, the log's columns are brought up to date first, as the governance login. Against a file neither a
    server nor a database is needed.
    """
    require_extra()
    policy = compiled_reference(draft)
    compared = None if baseline is None else compiled_reference(baseline)
    selection = selected(since, until, channel)
    economics = economics_of(pd, lgd_pct, ead_pct)
    if against == "log":
        source: LogExtract = log_extract(extract_directory(extract), selection)
        report = run_what_if(source, policy, compared, economics, reviewers)
    else:
        if mapping is None:
            raise CommandError("a file of past applications needs --mapping")
        columns = Columns(recorded=_column("--recorded", recorded), repaid=_column("--repaid", repaid))
        moment = _instant("--at", at) or datetime.combine(datetime.now(UTC).date(), time(), UTC)
        with history(
            Path(against), mapping, places=_places(channels), columns=columns, at=moment, selection=selection
        ) as past:
            report = run_what_if(past, policy, compared, economics, reviewers)
    if output is not None:
        output.write_bytes(report.content)
    if as_json:
        typer.echo(orjson.dumps(report.whole(), option=orjson.OPT_INDENT_2).decode())
    else:
        show_report(report)


@app.command("extract")
def bring_up_to_date(since: Since = None, until: Until = None, extract: Directory = None) -> None:
    """Bring the log's columns up to date, so that the next what-if only has to decide. Run it after an erasure, too.

    Works as the governance login. The folder holds applicants' data, readable by its owner alone.
    """
    require_extra()
    source = log_extract(extract_directory(extract), selected(since, until))
    typer.echo(f"{source.rows:,} decisions in {source.days:,} days agree with the log")


def show_report(report: Report) -> None:
    """Print a report for a person."""
    print_report(report, Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False, markup=False))


def selected(since: str | None, until: str | None, channels: list[str] | None = None) -> Selection:
    """Which decisions the options choose."""
    from app.whatif.extract import Selection

    return Selection(
        decided_from=_instant("--from", since),
        decided_to=_instant("--to", until),
        channels=frozenset(channels) if channels else None,
    )


def log_extract(directory: Path, selection: Selection) -> LogExtract:
    """The log's columns, brought up to date first."""
    from app.whatif.extract import ExtractError
    from app.whatif.reconcile import LogChangedError, reconcile

    with _progress("reading the log") as on_progress:

        async def work(connection: AsyncConnection) -> LogExtract:
            return await reconcile(connection, directory, selection, on_progress=on_progress)

        try:
            return governed(work, isolation_level="REPEATABLE READ")
        except (ExtractError, LogChangedError) as error:
            raise CommandError(str(error)) from None


def run_what_if(
    source: Source,
    draft: CompiledPolicy,
    baseline: CompiledPolicy | None,
    economics: Economics,
    reviewers: int | None,
) -> Report:
    """Decide again, and show on a terminal how far it is."""
    from app.whatif.per_row import DisagreementError
    from app.whatif.run import what_if

    with _progress("deciding again") as on_progress:
        try:
            return what_if(
                source, draft, baseline=baseline, economics=economics, reviewers=reviewers, on_progress=on_progress
            )
        except DisagreementError as error:
            raise CommandError(f"{error}; there is no report") from None


def economics_of(bands: Path | None, lgd_pct: int, ead_pct: int) -> Economics:
    """What is assumed; the bands are read from a file."""
    from app.whatif.economics import Economics, EconomicsError, read_bands

    if bands is None:
        return Economics(lgd_pct=lgd_pct, ead_pct=ead_pct)
    try:
        return Economics(lgd_pct=lgd_pct, ead_pct=ead_pct, bands=read_bands(_yaml(bands)))
    except EconomicsError as error:
        raise CommandError(f"{bands}: {error}") from None


def _places(file: Path | None) -> dict[str, Place] | None:
    """The channels of a list in the form of docs/examples/*.channels.yaml, by code."""
    from app.whatif.history import Place

    if file is None:
        return None
    document = _yaml(file)
    listed = document.get("channels") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise CommandError(f"{file}: must have a list of channels")
    try:
        return {
            str(each["code"]): Place(state=ChannelState(each.get("state", "active")), tier=each.get("tier"))
            for each in listed
        }
    except (AttributeError, KeyError, TypeError, ValueError):
        raise CommandError(f"{file}: each channel has a code, and may have a state and a tier") from None


def _yaml(file: Path) -> object:
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror or type(error).__name__}") from None
    except (UnicodeDecodeError, yaml.YAMLError):
        raise CommandError(f"{file} is not YAML or JSON") from None


def extract_directory(given: Path | None) -> Path:
    """Where the extract lies, as the option or the setting says."""
    directory = given or read_settings().extract_directory
    if directory is None:
        raise CommandError("where does the extract lie? Say --extract or set GATE_EXTRACT_DIRECTORY")
    return directory


def _column(option: str, text: str | None) -> KnownColumn | None:
    """`COLUMN:accept=TEXT,reject=TEXT`: a column and what its texts mean."""
    if text is None:
        return None
    name, _, meanings = text.partition(":")
    pairs = [pair.partition("=") for pair in meanings.split(",")]
    allowed = {"--recorded": {"accept", "escalate", "reject"}, "--repaid": {"yes", "no"}}[option]
    if not name or not all(separator and meaning in allowed for meaning, separator, _ in pairs):
        raise typer.BadParameter(f"{option} is COLUMN:MEANING=TEXT,..., a meaning one of {', '.join(sorted(allowed))}")
    return KnownColumn(name=name, meanings={value: meaning for meaning, _, value in pairs})


def _instant(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        if len(text) == len("2026-11-24"):
            return datetime.combine(date.fromisoformat(text), time(), UTC)
        return parse_instant(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{option} must be a date, or an instant with a UTC offset") from None


def require_extra() -> None:
    """End the command where the libraries of arrays are not installed."""
    if any(importlib.util.find_spec(name) is None for name in ("numpy", "pyarrow")):
        raise CommandError(f"this needs the extra: {how_to_install('whatif')}")


@contextmanager
def _progress(title: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on standard error, where that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
