"""How single columns of a policy document are read: each fault is kept with its row and column, and reading goes on."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TypeGuard, TypeVar

from app.domain.application import REPORTABLE_CAUSES, Unknown
from app.domain.canonical import storable
from app.domain.errors import PolicyProblem
from app.domain.fields import scaled
from app.domain.policy import Effect, IfMissing, Text

_CODE = re.compile(r"[A-Z][A-Z0-9_]{1,31}")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_JURISDICTION = re.compile(r"[A-Z0-9-]{2,16}")

E = TypeVar("E", bound=StrEnum)
T = TypeVar("T")

ABSENT = object()
"""The default of a column that must be there."""

NO_TEXT = Text(en="", zh="")


class Row:
    """One mapping of the document while it is read: every column is asked for once, and each fault is kept.

    A faulty column yields a harmless stand-in, so that reading goes on and the other faults are found too; a document
    with any fault never reaches the outside.
    """

    def __init__(self, name: str, raw: object, problems: list[PolicyProblem], prefix: str = "") -> None:
        self.name = name
        self.problems = problems
        self.faults_before = len(problems)
        self.prefix = prefix
        self._left: dict[str, object] = {}
        self._mapping = isinstance(raw, Mapping)
        if isinstance(raw, Mapping):
            self._left = {str(key): value for key, value in raw.items()}
        else:
            self.fault("", "must be an object")

    @property
    def sound(self) -> bool:
        """Whether nothing was wrong in this row so far."""
        return len(self.problems) == self.faults_before

    def fault(self, column: str, detail: str) -> None:
        """Keep one fault of this row."""
        path = f"{self.prefix}.{column}".strip(".")
        self.problems.append(PolicyProblem(row=self.name, column=path, detail=detail))

    def take(self, column: str, default: object = ABSENT) -> object:
        """The raw value of a column; a fault where it is absent and has no default."""
        value = self._left.pop(column, default)
        if value is ABSENT and self._mapping:
            self.fault(column, "is missing")
        return value

    def read(self, column: str, convert: Callable[[object], T], stand_in: T, default: object = ABSENT) -> T:
        """The converted value of a column. `convert` raises TypeError or ValueError with what is wrong."""
        raw = self.take(column, default)
        if raw is ABSENT:
            return stand_in
        try:
            return convert(raw)
        except (TypeError, ValueError) as error:
            self.fault(column, str(error))
            return stand_in

    def row(self, column: str, default: object = ABSENT) -> Row:
        """A nested mapping of the same row."""
        raw = self.take(column, default)
        path = f"{self.prefix}.{column}".strip(".")
        return Row(self.name, {} if raw is ABSENT else raw, [] if raw is ABSENT else self.problems, path)

    def items(self) -> list[tuple[str, object]]:
        """What has not been asked for yet, as pairs; counts as asked for."""
        left = list(self._left.items())
        self._left = {}
        return left

    def finish(self) -> None:
        """Report the columns that nobody asked for."""
        for column in self._left:
            self.fault(column, "is not a column of this row")
        self._left = {}


ESCALATE = IfMissing(default=Effect.ESCALATE, by_cause={})


def rows_of(row: Row, column: str, limit: int, default: object = ABSENT) -> list[object]:
    """A list of rows, bounded."""
    raw = row.take(column, default)
    if raw is ABSENT:
        return []
    if not isinstance(raw, list | tuple) or len(raw) > limit:
        row.fault(column, f"must be a list of at most {limit} rows")
        return []
    return list(raw)


def converted(row: Row, column: str, raw: object, convert: Callable[[object], T]) -> T:
    """One converted value of a mapping whose keys are data; faults are kept, and None stands in for the value."""
    try:
        return convert(raw)
    except (TypeError, ValueError) as error:
        row.fault(column, str(error))
        return None  # type: ignore[return-value]  # a row with a fault is never used


def by_tier(row: Row, column: str, convert: Callable[[object], T]) -> dict[str, T | None]:
    """A mapping from tiers to converted values; null stays None. Which tiers there must be, the compiler says."""
    section = row.row(column)
    convert_or_none = optional(convert)
    return {tier: converted(section, tier, raw, convert_or_none) for tier, raw in section.items()}


def read_text(row: Row, column: str) -> Text:
    """A notice text that must be there."""
    return read_optional_text(row, column, required=True) or NO_TEXT


def read_optional_text(row: Row, column: str, *, required: bool) -> Text | None:
    """A notice text in both languages; null where it may be absent."""
    raw = row.take(column, ABSENT if required else None)
    if raw is None and not required:
        return None
    if raw is ABSENT:
        return NO_TEXT
    inner = Row(row.name, raw, row.problems, f"{row.prefix}.{column}".strip("."))
    text = Text(en=inner.read("en", bounded_text, ""), zh=inner.read("zh", bounded_text, ""))
    inner.finish()
    return text


def bounded_text(raw: object) -> str:
    """Text that can be shown and stored: no control characters, no lone surrogates."""
    if not isinstance(raw, str) or not raw.strip() or len(raw) > 500 or not storable(raw):
        raise ValueError("must be text of 1 to 500 characters without control characters")
    return raw


def texts(raw: object) -> tuple[str, ...]:
    """A list of texts."""
    if not isinstance(raw, list | tuple):
        raise ValueError("must be a list of texts")
    return tuple(bounded_text(item) for item in raw)


def boolean(raw: object) -> bool:
    """True or false, and nothing that only counts as such."""
    if not isinstance(raw, bool):
        raise ValueError("must be true or false")
    return raw


def matching(pattern: re.Pattern[str], what: str) -> Callable[[object], str]:
    """Text of one form; `what` says which."""

    def convert(raw: object) -> str:
        if not isinstance(raw, str) or not pattern.fullmatch(raw):
            raise ValueError(f"must be {what}")
        return raw

    return convert


rule_code = matching(_CODE, "a code in capitals, digits and underscores")
currency = matching(_CURRENCY, "an ISO 4217 code")
identifier = matching(_NAME, "a name in lower case, digits and underscores")


def is_rule_code(raw: object) -> TypeGuard[str]:
    """Whether a row may be named by this code."""
    return isinstance(raw, str) and _CODE.fullmatch(raw) is not None


def jurisdictions(raw: object) -> tuple[str, ...] | None:
    """Different jurisdiction codes, or None for any."""
    if raw is None:
        return None
    codes = texts(raw)
    if not codes or not all(_JURISDICTION.fullmatch(code) for code in codes) or len(set(codes)) != len(codes):
        raise ValueError("must be null or a list of different jurisdiction codes")
    return codes


def integer(minimum: int, maximum: int) -> Callable[[object], int]:
    """A whole number in a range, ends included."""

    def convert(raw: object) -> int:
        if isinstance(raw, bool) or not isinstance(raw, int) or not minimum <= raw <= maximum:
            raise ValueError(f"must be a whole number from {minimum} to {maximum}")
        return raw

    return convert


def hundredths(maximum: int) -> Callable[[object], int]:
    """A number above 0 with two decimals, as an integer at scale 2; `maximum` is at that scale too."""

    def convert(raw: object) -> int:
        number = scaled(raw, 2)
        if not 0 < number <= maximum:
            raise ValueError(f"must be above 0 and at most {maximum // 100}")
        return number

    return convert


def optional(convert: Callable[[object], T]) -> Callable[[object], T | None]:
    """The same conversion, with null as None."""
    return lambda raw: None if raw is None else convert(raw)


def member(kind: type[E]) -> Callable[[object], E]:
    """One of an enumeration's values."""

    def convert(raw: object) -> E:
        if not isinstance(raw, str) or raw not in kind.__members__.values():
            raise ValueError(f"must be one of {', '.join(member.value for member in kind)}")
        return kind(raw)

    return convert


def effect_among(*allowed: Effect) -> Callable[[object], Effect]:
    """One of some effects."""

    def convert(raw: object) -> Effect:
        if not isinstance(raw, str) or raw not in {effect.value for effect in allowed}:
            raise ValueError(f"must be one of {', '.join(effect.value for effect in allowed)}")
        return Effect(raw)

    return convert


ADVERSE = effect_among(Effect.REJECT, Effect.ESCALATE)
ANY_EFFECT = effect_among(*Effect)


def missing_effect(raw: object) -> IfMissing:
    """One effect for every cause, or a default beside the effects of causes."""
    if not isinstance(raw, Mapping):
        return IfMissing(default=ANY_EFFECT(raw), by_cause={})
    causes = {cause.value: cause for cause in REPORTABLE_CAUSES}
    unknown = [str(key) for key in raw if key != "default" and key not in causes]
    if unknown or "default" not in raw:
        raise ValueError(f"must be an effect, or name a default and may name {', '.join(causes)}")
    by_cause: dict[Unknown, Effect] = {
        causes[str(key)]: ANY_EFFECT(item) for key, item in raw.items() if key != "default"
    }
    return IfMissing(default=ANY_EFFECT(raw["default"]), by_cause=by_cause)
