"""`channel-gate policy`: check, read, compare and publish policies."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import orjson
import typer
from rich.console import Console
from sqlalchemy.ext.asyncio import AsyncConnection

from app.cli.errors import CommandError
from app.cli.governance import Actor, change_of, governed
from app.cli.policy_table import print_policy
from app.domain.cases import check_cases
from app.domain.compiled import CompiledPolicy
from app.domain.compiler import compile_policy
from app.domain.errors import PolicyError
from app.domain.policy_changes import differences
from app.policies.document_text import DocumentTextError, parse_json, parse_yaml
from app.policies.document_yaml import dump_yaml
from app.policies.store import Published, Rollout, active_policy, find_policy, publish, read_rollout
from app.settings import read_settings

app = typer.Typer(name="policy", help="Check, read, compare and publish policies.", no_args_is_help=True)

_PARSERS = {".json": parse_json, ".yaml": parse_yaml, ".yml": parse_yaml}
_POLL_SECONDS = 0.05
_PIPE_WIDTH = 160

File = Annotated[Path, typer.Argument(help="A policy as JSON or YAML, told by the end of its name.")]
Wait = Annotated[float, typer.Option(min=0, max=600, help="Seconds to wait until all live workers serve it.")]
_REFERENCE = "A file, the number of a published version, or `active`."


@app.command("validate")
def validate(file: File) -> None:
    """Check a policy and run its own cases. Nothing is stored and no database is needed.

    Every fault is a line on standard error with its row and column; the exit code is then 1.
    """
    compiled = checked_file(file)
    policy = compiled.document
    tiers = ", ".join(tier.code for tier in sorted(policy.tiers, key=lambda tier: tier.rank))
    typer.echo(f"{file}: valid; {policy.name} has {len(policy.rules)} rules for the tiers {tiers}")
    if policy.cases:
        typer.echo(f"{file}: all {len(policy.cases)} cases are decided as they say")


@app.command("show")
def show(
    which: Annotated[str, typer.Argument(help=_REFERENCE)] = "active",
    active: Annotated[bool, typer.Option("--active", help="The active policy, which is the default.")] = False,
    form: Annotated[
        Literal["table", "json", "yaml"], typer.Option("--format", help="A table to read, or a document to edit.")
    ] = "table",
) -> None:
    """Show a policy: the rule table with its thresholds, the ceilings and the products."""
    compiled = compiled_reference("active" if active else which)
    document = compiled.document.document()
    if form == "json":
        typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
    elif form == "yaml":
        typer.echo(dump_yaml(document), nl=False)
    else:
        width = None if sys.stdout.isatty() else _PIPE_WIDTH
        print_policy(compiled, Console(width=width, markup=False, highlight=False))


@app.command("diff")
def diff(
    before: Annotated[str, typer.Argument(help=_REFERENCE)],
    after: Annotated[str, typer.Argument(help=_REFERENCE)],
    exit_code: Annotated[bool, typer.Option("--exit-code", help="End with 1 where they differ.")] = False,
) -> None:
    """Say what changes from one policy to another, one change a line."""
    found = differences(compiled_reference(before).document, compiled_reference(after).document)
    for difference in found:
        typer.echo(str(difference))
    if not found:
        typer.echo("no differences")
    if found and exit_code:
        raise typer.Exit(1)


@app.command("publish")
def publish_file(
    file: File,
    actor: Actor,
    comment: Annotated[str | None, typer.Option(help="Why, for the audit log.")] = None,
    if_active: Annotated[
        int | None, typer.Option(min=1, help="Publish only where this version is still the active one.")
    ] = None,
    wait: Wait = 0,
) -> None:
    """Check a policy, store it as the next version and make it the active one."""
    _publish(checked_file(file), actor=actor, comment=comment, if_active=if_active, wait=wait)


@app.command("rollback")
def rollback(
    version: Annotated[int, typer.Argument(min=1, help="The version to bring back.")],
    *,
    actor: Actor,
    comment: Annotated[str, typer.Option(help="Why, for the audit log.")],
    wait: Wait = 0,
) -> None:
    """Make an old version the active one again, as a new version. Where that takes two persons: `drafts rollback`."""
    compiled = compiled_reference(str(version))
    _publish(compiled, actor=actor, comment=comment, if_active=None, wait=wait)


def _publish(compiled: CompiledPolicy, *, actor: str, comment: str | None, if_active: int | None, wait: float) -> None:
    if not read_settings().single_person_mode:
        raise CommandError("GATE_SINGLE_PERSON_MODE is off, so one person cannot publish")

    async def work(connection: AsyncConnection) -> tuple[Published, Rollout]:
        published = await publish(
            connection, compiled, expected_active=if_active, comment=comment, change=change_of(actor)
        )
        return published, await _rolled_out(connection, published.revision, wait)

    published, rollout = governed(work)
    if published.changed:
        typer.echo(f"version {published.version} is published and active (single-person mode)")
        for difference in published.differences:
            typer.echo(f"  {difference}")
    else:
        typer.echo(f"version {published.version} is this policy already; nothing was published")
    if wait and rollout.pending:
        names = ", ".join(f"{worker.host}/{worker.pid}" for worker in rollout.pending)
        raise CommandError(f"after {wait:g} s these workers do not serve it yet: {names}")


async def _rolled_out(connection: AsyncConnection, revision: int, wait_seconds: float) -> Rollout:
    deadline = time.monotonic() + wait_seconds
    while True:
        rollout = await read_rollout(connection, revision)
        if not rollout.pending or time.monotonic() >= deadline:
            return rollout
        await asyncio.sleep(_POLL_SECONDS)


def compiled_reference(reference: str) -> CompiledPolicy:
    """The policy that a file, a version's number or `active` names."""
    if reference != "active" and not reference.isdecimal():
        return compiled_file(Path(reference))

    async def work(connection: AsyncConnection) -> tuple[int, object] | None:
        found = (
            await active_policy(connection)
            if reference == "active"
            else await find_policy(connection, min(int(reference[:12]), 2**31 - 1))
        )
        return None if found is None else (found.version, found.document())

    stored = governed(work)
    if stored is None:
        named = "no policy has been published yet" if reference == "active" else f"there is no version {reference}"
        raise CommandError(named)
    version, document = stored
    try:
        return compile_policy(document, version=version)
    except PolicyError as error:
        tell_faults(f"version {version}", error)


def checked_file(file: Path) -> CompiledPolicy:
    """The policy of a file, which decides its own cases as they say."""
    compiled = compiled_file(file)
    problems = check_cases(compiled)
    if problems:
        tell_faults(str(file), PolicyError(problems))
    return compiled


def compiled_file(file: Path) -> CompiledPolicy:
    """The policy of a file; every fault is told on standard error, and the command ends."""
    parse = _PARSERS.get(file.suffix.lower())
    if parse is None:
        raise CommandError(f"{file}: the name of a policy ends in .json, .yaml or .yml")
    try:
        return compile_policy(parse(file.read_bytes()))
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror or type(error).__name__}") from None
    except DocumentTextError as error:
        raise CommandError(f"{file}: {error}") from None
    except PolicyError as error:
        tell_faults(str(file), error)


def tell_faults(name: str, error: PolicyError) -> NoReturn:
    """Each fault as a line on standard error; ends the command with 1."""
    for problem in error.problems:
        typer.echo(f"{name}: {problem}", err=True)
    raise typer.Exit(1)
