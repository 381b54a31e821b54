"""Who makes an administrative change, and how the database's refusals read in Python.

The functions of administration refuse with SQLSTATEs of their own; their messages hold no value that the caller sent,
so they may be shown as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Who asks for a change, for the audit log."""

    actor: str
    request_id: str


class RefusedChangeError(Exception):
    """A change that the database refused; nothing was stored. The text says why and holds no value that was sent."""


class UnknownSubjectError(RefusedChangeError):
    """What should be changed is not there."""


class ConflictingChangeError(RefusedChangeError):
    """The change contradicts what is stored."""


class StaleChangeError(RefusedChangeError):
    """What should be changed has changed since it was read."""


class InvalidChangeError(RefusedChangeError):
    """The change can never be stored as it is."""


class ForbiddenChangeError(RefusedChangeError):
    """The change touches what is immutable, or the login may not make it."""


_BY_STATE: Mapping[str, type[RefusedChangeError]] = {
    "CG404": UnknownSubjectError,
    "CG409": ConflictingChangeError,
    "CG412": StaleChangeError,
    "CG422": InvalidChangeError,
    "CG403": ForbiddenChangeError,
}

_BY_CONSTRAINT: Mapping[str, RefusedChangeError] = {
    "tier_assignments_do_not_overlap": ConflictingChangeError("the scope has a tier over some of that time already"),
    "tier_assignments_half_open": InvalidChangeError("an assignment must end after it begins"),
    "channels_validity": InvalidChangeError("a channel's validity must end after it begins"),
    "channels_code_check": InvalidChangeError("a code is 1 to 64 letters, digits, dots, hyphens or underscores"),
    "channel_aliases_alias_check": InvalidChangeError(
        "an alias is 1 to 64 letters, digits, dots, hyphens or underscores"
    ),
}

_BY_CLASS: Mapping[str, type[RefusedChangeError]] = {
    "22": InvalidChangeError,
    "23": InvalidChangeError,
}


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what the database refuses inside into one of the errors above; what else goes wrong stays as it is.

    Raises:
        RefusedChangeError: one of its kinds.
    """
    try:
        yield
    except DBAPIError as error:
        refusal = _refusal(error)
        if refusal is None:
            raise
        raise refusal from None


def _refusal(error: DBAPIError) -> RefusedChangeError | None:
    driver_error = getattr(error.orig, "__cause__", None)
    state = str(getattr(driver_error, "sqlstate", None) or "")
    if state in _BY_STATE:
        return _BY_STATE[state](str(getattr(driver_error, "message", None) or driver_error))
    named = _BY_CONSTRAINT.get(str(getattr(driver_error, "constraint_name", None)))
    if named is not None:
        return type(named)(*named.args)
    kind = _BY_CLASS.get(state[:2])
    return None if kind is None else kind("a value cannot be stored as it is")
