"""`channel-gate migrate`: bring the schema forward, or wait until somebody else has."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from app.cli.governance import change_of, default_actor, owned
from app.db import schema
from app.governance.persons import set_rules
from app.settings import read_settings

app = typer.Typer()


@app.command("migrate")
def migrate(
    wait: Annotated[
        bool, typer.Option("--wait", help="Migrate nothing: return once the schema is current (for init containers).")
    ] = False,
    timeout: Annotated[float, typer.Option(min=0, help="With --wait: seconds until it gives up.")] = 300,
) -> None:
    """Bring the database's schema to this version, as the owner. Safe to run again and at the same time.

    With GATE_SINGLE_PERSON_MODE off it ends that mode in the database too. It never begins it again: that takes
    `channel-gate governance set`.
    """
    settings = read_settings()
    if wait:
        asyncio.run(schema.wait_until_current(settings.serving_url(), timeout))
        typer.echo(f"the schema is current: {schema.head()}")
        return
    schema.migrate(settings.owner_url())
    typer.echo(f"the schema is at {schema.head()}")
    if not settings.single_person_mode:
        change = change_of(default_actor())
        owned(lambda link: set_rules(link, single_person=False, reason="GATE_SINGLE_PERSON_MODE is off", change=change))
        typer.echo("single-person mode is off in the database")
