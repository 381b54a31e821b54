"""`channel-gate governance`: the rules that the database holds everybody to."""

from __future__ import annotations

from typing import Annotated

import orjson
import typer

from app.cli.governance import Actor, change_of, governed, owned
from app.governance.persons import read_rules, set_rules

app = typer.Typer(name="governance", help="See and set what changes take.", no_args_is_help=True)


@app.command("show")
def show() -> None:
    """Print the rules as JSON."""
    typer.echo(orjson.dumps(governed(read_rules)).decode())


@app.command("set")
def change(
    actor: Actor,
    reason: Annotated[str, typer.Option(help="Why, for the audit log.")],
    single_person: Annotated[
        bool | None, typer.Option("--single-person/--two-persons", help="Whether one person may change things alone.")
    ] = None,
    report_required: Annotated[
        bool | None,
        typer.Option("--report-required/--no-report-required", help="Whether an approval names a what-if report."),
    ] = None,
) -> None:
    """Change the rules. It takes OWNER_DATABASE_URL: no login of the service can do it."""
    rules = owned(
        lambda link: set_rules(
            link, single_person=single_person, report_required=report_required, reason=reason, change=change_of(actor)
        )
    )
    typer.echo(orjson.dumps(rules).decode())
