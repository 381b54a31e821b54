"""`channel-gate bootstrap`: create the three logins and the database, once, before the first migration."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from app.db.bootstrap import DATABASE_NAME, Roles
from app.db.bootstrap import bootstrap as create_logins
from app.settings import read_settings

app = typer.Typer()

_FROM_ENVIRONMENT_ONLY = "Read from the environment, so that it shows in no list of processes."


@app.command("bootstrap")
def bootstrap(
    superuser_url: Annotated[
        str,
        typer.Option(
            envvar="SUPERUSER_DATABASE_URL",
            help=f"A login that may create roles and databases. {_FROM_ENVIRONMENT_ONLY}",
        ),
    ],
    database: Annotated[str, typer.Option(help="Name of the database.")] = DATABASE_NAME,
    owner_password: Annotated[str, typer.Option(envvar="GATE_OWNER_PASSWORD", help=_FROM_ENVIRONMENT_ONLY)] = "",
    serving_password: Annotated[str, typer.Option(envvar="GATE_SERVING_PASSWORD", help=_FROM_ENVIRONMENT_ONLY)] = "",
    governance_password: Annotated[
        str, typer.Option(envvar="GATE_GOVERNANCE_PASSWORD", help=_FROM_ENVIRONMENT_ONLY)
    ] = "",
) -> None:
    """Create the logins and the database where they are absent. Their names: GATE_OWNER_ROLE and so on."""
    settings = read_settings()
    roles = Roles(owner=settings.owner_role, serving=settings.serving_role, governance=settings.governance_role)
    given = zip(roles.names(), (owner_password, serving_password, governance_password), strict=True)
    passwords = {role: password for role, password in given if password}
    asyncio.run(create_logins(superuser_url, database=database, roles=roles, passwords=passwords))
    typer.echo(f"the database {database} is ready for: channel-gate migrate")
