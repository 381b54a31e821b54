"""What lint says, and what it may be told about the applications of late."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias

Severity: TypeAlias = Literal["error", "warning"]


class Code(StrEnum):
    """The kinds of findings. A code never gets another meaning: approvals name the warnings that they accept by it."""

    NEVER_FIRES = "L01-never-fires"
    CONTRADICTION = "L02-contradiction"
    TIER_NEVER_FIRES = "L03-tier-never-fires"
    ONLY_UNKNOWN = "L04-only-unknown"
    ALWAYS_FIRES = "L05-always-fires"
    DUPLICATE = "L06-duplicate"
    SHADOWED = "L07-shadowed"
    NOT_MONOTONE = "L08-not-monotone"
    EFFECT_NOT_MONOTONE = "L09-effect-not-monotone"
    CAP_NOT_MONOTONE = "L10-cap-not-monotone"
    CAP_NEVER_BINDS = "L11-cap-never-binds"
    CEILING_OUT_OF_REACH = "L12-ceiling-out-of-reach"
    PRODUCT_CLOSED = "L13-product-closed"
    MANDATORY_UNREAD = "L14-mandatory-unread"
    NOT_CARRIED = "L15-field-not-carried"
    NO_TEXT = "L16-no-notice-text"


_ERRORS = frozenset({Code.NEVER_FIRES, Code.CONTRADICTION, Code.DUPLICATE, Code.PRODUCT_CLOSED, Code.NO_TEXT})


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that lint found: its kind, the row (a rule's code or a section), the column in it, and what it means.

    An error keeps a draft from being approved; a warning must be acknowledged by its code.
    """

    code: Code
    row: str
    column: str
    detail: str

    @property
    def severity(self) -> Severity:
        """How bad it is, which the code says."""
        return "error" if self.code in _ERRORS else "warning"

    def __str__(self) -> str:
        place = ", ".join(part for part in (self.row, self.column) if part)
        return f"{self.severity} {self.code} {place}: {self.detail}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldUsage:
    """How many of `applications`, taken from the last `days`, carried each field. Names are paths in the request."""

    applications: int
    days: int
    carried: Mapping[str, int]
