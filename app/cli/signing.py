"""How a command asks a person for their secret and signs on this machine: the secret itself goes nowhere."""

from __future__ import annotations

from typing import Annotated

import typer

from app.domain.signing import Statement, prove
from app.governance.signature import Signature

Person = Annotated[str, typer.Option(help="Id of the person who signs.")]
Secret = Annotated[
    str,
    typer.Option(
        envvar="APPROVAL_SECRET",
        default_factory=str,
        show_default=False,
        help="Asked for where the variable is unset, so that no list of processes shows it.",
    ),
]


def sign(person: str, secret: str, statement: Statement) -> Signature:
    """The person's signature on the statement."""
    given = secret or typer.prompt("Approval secret", hide_input=True)
    return Signature(person_id=person, proof=prove(given.strip(), statement))
