"""`channel-gate policy lint|test|export|schema`: what a pipeline asks of a policy before anybody reads it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Literal

import orjson
import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from app.cli.errors import CommandError
from app.cli.governance import governed
from app.cli.junit import PolicyRun, junit_xml
from app.cli.policy import File, compiled_file, compiled_reference
from app.cli.policy import app as policy_commands
from app.domain.canonical import Json
from app.domain.cases import CaseResult, run_cases
from app.domain.lint import lint
from app.domain.lint_findings import FieldUsage
from app.journal.usage import field_usage
from app.policies.document_schema import policy_schema
from app.policies.document_yaml import dump_yaml


@policy_commands.command("lint")
def lint_file(
    file: File,
    against_log: Annotated[
        bool, typer.Option("--against-log", help="Tell fields that applications of late never carried; asks the log.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="End with 1 for warnings as well.")] = False,
) -> None:
    """Tell rules that never act, that others make useless, and tiers out of order. Ends with 1 where one is an error.

    Needs no database but with --against-log.
    """
    compiled = compiled_file(file)

    async def work(connection: AsyncConnection) -> FieldUsage:
        return await field_usage(connection)

    findings = lint(compiled, carried=governed(work, "REPEATABLE READ") if against_log else None)
    for finding in findings:
        typer.echo(f"{file}: {finding}")
    errors = sum(finding.severity == "error" for finding in findings)
    typer.echo(f"{file}: {errors} errors, {len(findings) - errors} warnings")
    if errors or (strict and findings):
        raise typer.Exit(1)


@policy_commands.command("test")
def check_cases_of_files(
    files: Annotated[list[Path], typer.Argument(help="Policies as JSON or YAML.")],
    junit: Annotated[Path | None, typer.Option(help="Write the results here as JUnit XML.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Tell failures and totals alone.")] = False,
) -> None:
    """Run each policy's own cases. Ends with 1 where one is decided otherwise, or a policy has none."""
    tested = [_tested(file) for file in files]
    for policy in tested:
        for result in policy.results:
            if not quiet or not result.passed:
                _tell_result(result)
        failed = sum(not result.passed for result in policy.results)
        total = f"{len(policy.results) - failed} passed, {failed} failed" if policy.results else "it has no cases"
        typer.echo(f"{policy.name}: {total}")
    if junit is not None:
        junit.write_bytes(junit_xml(tested))
    if any(not policy.results or any(not result.passed for result in policy.results) for policy in tested):
        raise typer.Exit(1)


def _tested(file: Path) -> PolicyRun:
    compiled = compiled_file(file)
    started = time.perf_counter()
    results = run_cases(compiled)
    return PolicyRun(name=str(file), results=results, seconds=time.perf_counter() - started)


def _tell_result(result: CaseResult) -> None:
    typer.echo(f"{'ok    ' if result.passed else 'FAILED'} {result.name} [{result.tier}]")
    for problem in result.problems:
        typer.echo(f"       {problem}")


@policy_commands.command("export")
def export(
    which: Annotated[str, typer.Argument(help="The number of a published version, `active`, or a file.")] = "active",
    form: Annotated[Literal["json", "yaml"], typer.Option("--format", help="What to write.")] = "yaml",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The file; standard output if none.")] = None,
) -> None:
    """Write a policy as a document to keep, compare or publish again: the canonical form, whatever it was read from."""
    write_document(compiled_reference(which).document.document(), form, output)


def write_document(document: dict[str, Json], form: Literal["json", "yaml"], output: Path | None) -> None:
    """Write a policy's document to a file, or to standard output."""
    text = dump_yaml(document) if form == "yaml" else orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n"
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{output}: {error.strerror or type(error).__name__}") from None


@policy_commands.command("schema")
def schema() -> None:
    """Print the JSON Schema of a policy, for editors."""
    typer.echo(json.dumps(policy_schema(), indent=2, ensure_ascii=False))
