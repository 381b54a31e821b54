"""The JSON form of a tiering policy, and every fault of one that somebody wrote, by its path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from math import isfinite
from typing import Any, Final

from app.tiering.policy import DEFAULT, RANGE, BoundaryPolicy, PolicyValueError, Statistic, TieringPolicy

_MOST_ROWS: Final = 50
_LONGEST: Final = 100
_REFUSED: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFault:
    """What is wrong with a value; `pointer` is its JSON pointer."""

    pointer: str
    detail: str


class TieringPolicyError(ValueError):
    """A document that is no tiering policy, with every fault that was found."""

    def __init__(self, faults: tuple[PolicyFault, ...]) -> None:
        super().__init__("; ".join(f"{fault.pointer or '/'} {fault.detail}" for fault in faults))
        self.faults = faults


def write_policy(policy: TieringPolicy) -> dict[str, Any]:
    """The document of a policy, complete; `read_policy` gives the same policy again."""
    document = _written(policy)
    assert isinstance(document, dict)
    return document


def read_policy(document: object) -> TieringPolicy:
    """The policy that a parsed JSON document states. What it leaves out has its default; `name` is required.

    Raises:
        TieringPolicyError: with every value that is unknown, of the wrong kind, out of range or contradicting another.
    """
    faults: list[PolicyFault] = []
    if isinstance(document, Mapping) and "name" not in document:
        faults.append(PolicyFault(pointer="/name", detail="is required"))
    values = _read_section(DEFAULT, document, "", faults)
    if faults:
        raise TieringPolicyError(tuple(faults))
    try:
        return TieringPolicy(**values)
    except PolicyValueError as error:
        pointer = "/" + error.where.replace(".", "/").replace("[", "/").replace("]", "")
        raise TieringPolicyError((PolicyFault(pointer=pointer, detail=error.detail),)) from None


def _written(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: _written(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, tuple):
        return [_written(item) for item in value]
    return str(value) if isinstance(value, Statistic) else value


def _read_section(default: Any, document: object, at: str, faults: list[PolicyFault]) -> dict[str, Any]:
    if not isinstance(document, Mapping):
        faults.append(PolicyFault(pointer=at, detail="must be an object"))
        return {}
    known = {each.name: each for each in fields(default)}
    faults.extend(
        PolicyFault(pointer=f"{at}/{str(key)[:_LONGEST]}", detail="is no part of a tiering policy")
        for key in document
        if key not in known
    )
    read = {}
    for name, declared in known.items():
        if name not in document:
            continue
        value = _read_value(getattr(default, name), document[name], f"{at}/{name}", faults)
        if value is _REFUSED:
            continue
        if RANGE in declared.metadata:
            minimum, maximum = declared.metadata[RANGE]
            if not minimum <= value <= maximum:
                faults.append(PolicyFault(pointer=f"{at}/{name}", detail=f"must be from {minimum:g} to {maximum:g}"))
                continue
        read[name] = value
    return read


def _read_value(default: Any, raw: object, at: str, faults: list[PolicyFault]) -> Any:
    """A value of the kind that the default has."""
    if is_dataclass(default):
        before = len(faults)
        values = _read_section(default, raw, at, faults)
        kind: Any = type(default)
        return kind(**values) if len(faults) == before else _REFUSED
    if isinstance(default, tuple):
        return _read_rows(default[0], raw, at, faults)
    detail = _fault_of(default, raw)
    if detail is not None:
        faults.append(PolicyFault(pointer=at, detail=detail))
        return _REFUSED
    if isinstance(default, Statistic):
        return Statistic(str(raw))
    return float(raw) if isinstance(default, float) else raw  # type: ignore[arg-type]  # it is a number


def _fault_of(default: object, raw: object) -> str | None:
    number = isinstance(raw, int | float) and not isinstance(raw, bool)
    if isinstance(default, Statistic):
        names = [each.value for each in Statistic]
        return None if raw in names else f"must be one of {', '.join(names)}"
    if isinstance(default, str):
        return None if isinstance(raw, str) and 0 < len(raw) <= _LONGEST else f"must be a text of 1 to {_LONGEST}"
    if isinstance(default, int):
        return None if number and isinstance(raw, int) else "must be a whole number"
    return None if number and isfinite(raw) else "must be a number"  # type: ignore[arg-type]


def _read_rows(first: Any, raw: object, at: str, faults: list[PolicyFault]) -> Any:
    if not isinstance(raw, list | tuple) or not 0 < len(raw) <= _MOST_ROWS:
        faults.append(PolicyFault(pointer=at, detail=f"must be a list of 1 to {_MOST_ROWS}"))
        return _REFUSED
    before = len(faults)
    rows: list[Any] = []
    for position, item in enumerate(raw):
        where = f"{at}/{position}"
        if isinstance(first, BoundaryPolicy) and isinstance(item, Mapping):
            faults.extend(
                PolicyFault(pointer=f"{where}/{each.name}", detail="is required")
                for each in fields(first)
                if each.name not in item
            )
        if isinstance(first, tuple):
            rows.append(_read_pair(item, where, faults))
        else:
            rows.append(_read_value(first, item, where, faults))
    return tuple(rows) if len(faults) == before else _REFUSED


def _read_pair(raw: object, at: str, faults: list[PolicyFault]) -> Any:
    if not isinstance(raw, list | tuple) or len(raw) != 2 or any(_fault_of(0.0, item) is not None for item in raw):
        faults.append(PolicyFault(pointer=at, detail="must be two numbers"))
        return _REFUSED
    return (float(raw[0]), float(raw[1]))
