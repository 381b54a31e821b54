"""A caller whose credential has been checked, or why it was refused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

OriginatorId = NewType("OriginatorId", int)


class Role(StrEnum):
    """What a caller may do. No role includes another: who both writes and approves holds both, and says so."""

    ORIGINATION = "origination"
    """Sends applications and reads its own originator's decisions."""
    OUTCOMES = "outcomes"
    """Reports what became of applications."""
    ANALYST = "analyst"
    """Reads everything about decisions, thresholds and fraud codes included."""
    REVIEWER = "reviewer"
    """Works off what was escalated."""
    POLICY_AUTHOR = "policy-author"
    POLICY_APPROVER = "policy-approver"
    ADMIN = "admin"
    """Owns channels, tiers and keys."""


ORIGINATOR_ROLES = frozenset({Role.ORIGINATION, Role.OUTCOMES})
"""Roles that mean something only on behalf of an originator."""

_ROLES = {role.value: role for role in Role}


def known_roles(names: Iterable[object]) -> frozenset[Role]:
    """The roles among `names`. Others are ignored: a role that this version does not know grants nothing."""
    return frozenset(_ROLES[name] for name in names if isinstance(name, str) and name in _ROLES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who calls, as far as the gate needs to know.

    `subject` is unique over all kinds of credentials and fit for the audit log. `person_id` names a human being and
    is None for a machine, so that two credentials of one person are not two persons. `key_id` is None for a token.
    """

    subject: str
    roles: frozenset[Role]
    person_id: str | None = None
    originator_id: OriginatorId | None = None
    originator_code: str | None = None
    key_id: str | None = None
    rate_limit_per_second: int | None = None
    """None: the default of the service."""

    def has_any(self, roles: Iterable[Role]) -> bool:
        """Whether the caller holds at least one of `roles`."""
        return not self.roles.isdisjoint(roles)


class Refusal(StrEnum):
    """Why a credential was not accepted. Only who proved to hold the secret learns that it ended."""

    MISSING = "missing"
    """No credential was presented."""
    NOT_A_KEY = "not_a_key"
    """Something that is no API key: another kind of credential may still fit."""
    INVALID = "invalid"
    """No such credential, or one whose secret, signature or claims do not hold."""
    EXPIRED = "expired"
    REVOKED = "revoked"
    UNKNOWN_ORIGINATOR = "unknown_originator"
    """A token that holds but names an originator that is not registered here."""
