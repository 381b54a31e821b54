"""`channel-gate persons`: who may sign for changes. The owner's business: it takes OWNER_DATABASE_URL."""

from __future__ import annotations

from typing import Annotated

import orjson
import typer

from app.cli.governance import Actor, change_of, governed, owned
from app.governance import persons
from app.governance.persons import PersonRole

app = typer.Typer(name="persons", help="Register who may sign for changes.", no_args_is_help=True)

PersonId = Annotated[str, typer.Argument(help="Id of the person, as API keys (--person) and tokens name them.")]
Reason = Annotated[str, typer.Option(help="Why, for the audit log.")]
Roles = Annotated[list[PersonRole], typer.Option("--role", help="What the person may sign; again for more.")]


@app.command("add")
def add(
    person_id: PersonId, role: Roles, actor: Actor, name: Annotated[str, typer.Option(help="Their name.")] = ""
) -> None:
    """Register a person and print their approval secret. It is shown this once."""
    secret = owned(
        lambda link: persons.add_person(link, person_id, name=name or person_id, roles=role, change=change_of(actor))
    )
    _show_once(secret)


@app.command("rotate")
def rotate(person_id: PersonId, actor: Actor) -> None:
    """Make a new secret, which unlocks the person. The old one ends at once."""
    _show_once(owned(lambda link: persons.rotate_secret(link, person_id, change=change_of(actor))))


@app.command("disable")
def disable(person_id: PersonId, reason: Reason, actor: Actor) -> None:
    """Let a person sign no more. What they signed stands."""
    owned(lambda link: persons.amend_person(link, person_id, disabled=True, reason=reason, change=change_of(actor)))
    typer.echo(f"{person_id} may not sign any more")


@app.command("enable")
def enable(person_id: PersonId, reason: Reason, actor: Actor) -> None:
    """Let a disabled person sign again."""
    owned(lambda link: persons.amend_person(link, person_id, disabled=False, reason=reason, change=change_of(actor)))
    typer.echo(f"{person_id} may sign again")


@app.command("roles")
def roles(person_id: PersonId, role: Roles, reason: Reason, actor: Actor) -> None:
    """Say what a person may sign from now on."""
    owned(lambda link: persons.amend_person(link, person_id, roles=role, reason=reason, change=change_of(actor)))
    typer.echo(f"{person_id}: {' '.join(sorted(each.value for each in role))}")


@app.command("unlock")
def unlock(person_id: PersonId, reason: Reason, actor: Actor) -> None:
    """Let a person sign again who was locked after ten wrong signatures in a row."""
    owned(lambda link: persons.unlock_person(link, person_id, reason=reason, change=change_of(actor)))
    typer.echo(f"{person_id} is unlocked")


@app.command("list")
def list_all() -> None:
    """List the persons, one JSON object a line, without anything secret."""
    for person in governed(persons.list_persons):
        typer.echo(orjson.dumps(person).decode())


def _show_once(secret: str) -> None:
    typer.echo(secret)
    typer.echo("Give it to the person now: it is not shown again.", err=True)
