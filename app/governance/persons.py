"""Persons who may sign, and the rules of governance. Changing either takes the owner's connection.

A secret is `cgp_` and 32 random bytes. It is known at the moment that it is made; the database keeps what
`app.domain.signing.stored_key` makes of it, in a table that no login of the service can read.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from sqlalchemy import RowMapping, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.changes import Change, refusals
from app.db.tables import governance, persons
from app.domain.signing import stored_key


class PersonRole(StrEnum):
    """What a person may sign. The database holds them to it, whatever roles their API key or token has."""

    POLICY_AUTHOR = "policy-author"
    """Submits drafts; breaks the glass."""
    POLICY_APPROVER = "policy-approver"
    """Approves drafts and changes, confirms; breaks the glass."""
    ADMIN = "admin"
    """Asks for changes of channels and tiers, and approves those of others."""
    REVIEWER = "reviewer"
    """Proposes to accept what takes two persons, and approves what others propose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody who may sign, until disabled."""

    person_id: str
    name: str
    roles: tuple[str, ...]
    registered_at: datetime
    disabled_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the database asks for. `report_required` counts outside the single-person mode alone."""

    single_person: bool
    report_required: bool
    break_glass_hours_max: int


_ADD = text("SELECT gate.person_add(:person_id, :name, :roles, :stored_key, :actor, :request_id)")
_ROTATE = text("SELECT gate.person_rotate(:person_id, :stored_key, :actor, :request_id)")
_AMEND = text("SELECT gate.person_amend(:person_id, :roles, :disabled, :actor, :reason, :request_id)")
_UNLOCK = text("SELECT gate.person_unlock(:person_id, :actor, :reason, :request_id)")
_SET_RULES = text("SELECT * FROM gate.governance_set(:single_person, :report_required, :actor, :reason, :request_id)")


def new_secret() -> str:
    """A secret of 256 random bits."""
    return f"cgp_{secrets.token_urlsafe(32)}"


async def add_person(
    connection: AsyncConnection, person_id: str, *, name: str, roles: Iterable[PersonRole], change: Change
) -> str:
    """Register a person who may sign; their secret.

    Raises:
        InvalidChangeError: where the id is taken or is not 1 to 200 printable characters without blanks.
    """
    secret = new_secret()
    given = {
        "person_id": person_id,
        "name": name,
        "roles": sorted(role.value for role in roles),
        "stored_key": stored_key(secret),
    }
    with refusals():
        await connection.execute(_ADD, given | _by(change))
    return secret


async def rotate_secret(connection: AsyncConnection, person_id: str, *, change: Change) -> str:
    """A new secret, which unlocks the person; the old one ends at once.

    Raises:
        UnknownSubjectError: no person has the id.
    """
    secret = new_secret()
    with refusals():
        await connection.execute(_ROTATE, {"person_id": person_id, "stored_key": stored_key(secret)} | _by(change))
    return secret


async def amend_person(
    connection: AsyncConnection,
    person_id: str,
    *,
    roles: Iterable[PersonRole] | None = None,
    disabled: bool | None = None,
    reason: str,
    change: Change,
) -> None:
    """Change what a person may sign, or whether they may at all. None leaves it as it is.

    Raises:
        UnknownSubjectError: no person has the id.
    """
    given = {
        "person_id": person_id,
        "roles": None if roles is None else sorted(role.value for role in roles),
        "disabled": disabled,
        "reason": reason,
    }
    with refusals():
        await connection.execute(_AMEND, given | _by(change))


async def unlock_person(connection: AsyncConnection, person_id: str, *, reason: str, change: Change) -> None:
    """Let a person sign again who was locked after too many wrong signatures.

    Raises:
        UnknownSubjectError: no person has the id.
    """
    with refusals():
        await connection.execute(_UNLOCK, {"person_id": person_id, "reason": reason} | _by(change))


async def set_rules(
    connection: AsyncConnection,
    *,
    single_person: bool | None = None,
    report_required: bool | None = None,
    reason: str,
    change: Change,
) -> Rules:
    """Change the rules; None leaves one as it is."""
    given = {"single_person": single_person, "report_required": report_required, "reason": reason}
    with refusals():
        return _rules((await connection.execute(_SET_RULES, given | _by(change))).mappings().one())


async def read_rules(connection: AsyncConnection) -> Rules:
    """The rules that the database holds everybody to."""
    return _rules((await connection.execute(select(governance))).mappings().one())


async def list_persons(connection: AsyncConnection) -> tuple[Person, ...]:
    """Everybody who was ever registered, by their ids."""
    rows = (await connection.execute(select(persons).order_by(persons.c.person_id))).mappings()
    return tuple(
        Person(
            person_id=row["person_id"],
            name=row["name"],
            roles=tuple(row["roles"]),
            registered_at=row["registered_at"].astimezone(UTC),
            disabled_at=row["disabled_at"] and row["disabled_at"].astimezone(UTC),
        )
        for row in rows
    )


def _rules(row: RowMapping) -> Rules:
    return Rules(
        single_person=row["single_person"],
        report_required=row["report_required"],
        break_glass_hours_max=row["break_glass_hours_max"],
    )


def _by(change: Change) -> dict[str, object]:
    return {"actor": change.actor, "request_id": change.request_id}
