"""Compiled requirements: what must hold of one field, checked in well under a microsecond."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple, TypeAlias

from app.domain.application import Unknown
from app.domain.canonical import Json
from app.domain.fields import Field, FieldKind, Stage, Value
from app.domain.policy import Effect, IfMissing, Op, Text, Threshold
from app.domain.reasons import Reason

Holds: TypeAlias = Callable[[Any, Any], bool]
"""Whether a known value (first) meets an encoded threshold (second)."""


class Operator(NamedTuple):
    """One requirement in both of its forms: what must hold of a known value, and of a whole column of them.

    `column` takes an array of integers and gives one of booleans. It is written in Python's own operators, which mean
    the same on a number and, value by value, on an array, so that this package needs no library of arrays.
    """

    value: Holds
    column: Callable[[Any, Any], Any]


def _is_one_of(value: Value, options: frozenset[Value]) -> bool:
    return value in options


def _are_among(column: Any, options: frozenset[Value]) -> Any:
    return reduce(operator.or_, (column == option for option in options), operator.ne(column, column))


def _is_none_of(value: Value, options: frozenset[Value]) -> bool:
    return value not in options


def _are_not_among(column: Any, options: frozenset[Value]) -> Any:
    return reduce(operator.and_, (column != option for option in options), operator.eq(column, column))


def _is_known(_value: Value, _threshold: bool) -> bool:
    return True


def _are_known(column: Any, _threshold: bool) -> Any:
    return operator.eq(column, column)


OPERATORS: Mapping[Op, Operator] = {
    Op.AT_LEAST: Operator(operator.ge, operator.ge),
    Op.AT_MOST: Operator(operator.le, operator.le),
    Op.ABOVE: Operator(operator.gt, operator.gt),
    Op.BELOW: Operator(operator.lt, operator.lt),
    Op.IS: Operator(operator.eq, operator.eq),
    Op.IS_NOT: Operator(operator.ne, operator.ne),
    Op.ONE_OF: Operator(_is_one_of, _are_among),
    Op.NONE_OF: Operator(_is_none_of, _are_not_among),
    Op.KNOWN: Operator(_is_known, _are_known),
}
"""Every operator, declared once. Of an unknown value none is asked."""

HOLDS: Mapping[Op, Holds] = {op: each.value for op, each in OPERATORS.items()}

ORDERING = frozenset({Op.AT_LEAST, Op.AT_MOST, Op.ABOVE, Op.BELOW})
_LISTS = frozenset({Op.ONE_OF, Op.NONE_OF})
_EQUALITY = frozenset({Op.IS, Op.IS_NOT})
_QUANTITIES = frozenset({FieldKind.NUMBER, FieldKind.MONEY, FieldKind.RATIO})


def permitted(field: Field) -> frozenset[Op]:
    """The operators that make sense on a field of this kind."""
    match field.kind:
        case FieldKind.BOOLEAN:
            return _EQUALITY | {Op.KNOWN}
        case FieldKind.TEXT:
            return _EQUALITY | _LISTS | {Op.KNOWN}
        case FieldKind.CHOICE:
            return _EQUALITY | _LISTS | {Op.KNOWN} | (ORDERING if field.ordered else frozenset())
        case FieldKind.RATIO:
            return ORDERING | {Op.KNOWN}
        case _:
            return ORDERING | _EQUALITY | _LISTS | {Op.KNOWN}


def encode_threshold(field: Field, op: Op, raw: Threshold) -> Value | frozenset[Value]:
    """The threshold as requirements compare it.

    Raises:
        ValueError: where it is not what the operator and the field take.
    """
    if op is Op.KNOWN:
        if raw is not True:
            raise ValueError("must be true, or null where the rule does not apply")
        return True
    if op in _LISTS:
        if not isinstance(raw, tuple):
            raise ValueError("must be a list of values")
        return frozenset(field.encode(item) for item in raw)
    if isinstance(raw, tuple):
        raise ValueError("must be one value")
    return field.encode(raw)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledCondition:
    """One `when` condition of a rule."""

    field: Field
    op: Op
    holds: Holds
    threshold: Value | frozenset[Value]
    if_missing: IfMissing


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledRule:
    """A rule as it holds for one tier."""

    code: str
    field: Field
    op: Op
    holds: Holds
    threshold: Value | frozenset[Value]
    threshold_shown: Json
    effect: Effect
    if_missing: IfMissing
    when: tuple[CompiledCondition, ...]
    priority: int
    confidential: bool
    reason: Text
    missing_reason: Text
    stage: Stage
    fields: frozenset[str]
    """Every field that the rule reads."""

    def judge(self, values: Mapping[str, Value], unknown: Mapping[str, Unknown]) -> Reason | None:
        """The reason that the rule gives, or None where it holds, does not apply, or passes what is unknown.

        Where the rule's field fails but whether it applies is unknown, the condition's own effect counts. Where a
        condition is false the rule does not apply, whatever else is unknown.
        """
        value = values.get(self.field.name)
        if value is not None and self.holds(value, self.threshold):
            return None
        undecided: CompiledCondition | None = None
        for condition in self.when:
            observed = values.get(condition.field.name)
            if observed is None:
                if condition.if_missing.effect(_cause(unknown, condition.field.name)) is Effect.PASS:
                    return None
                undecided = undecided or condition
            elif not condition.holds(observed, condition.threshold):
                return None
        if value is None:
            effect = self.if_missing.effect(_cause(unknown, self.field.name))
            return None if effect is Effect.PASS else self._unverifiable(self.field, effect, unknown)
        if undecided is not None:
            effect = undecided.if_missing.effect(_cause(unknown, undecided.field.name))
            return self._unverifiable(undecided.field, effect, unknown)
        return Reason(
            code=self.code,
            field=self.field.name,
            observed=self.field.display(value),
            threshold=self.threshold_shown,
            effect=self.effect,
            cause=None,
            text=self.reason,
            source=self.field.source,
            priority=self.priority,
            confidential=self.confidential,
            distance_ppm=_distance_ppm(self.field, value, self.threshold),
        )

    def _unverifiable(self, field: Field, effect: Effect, unknown: Mapping[str, Unknown]) -> Reason:
        return Reason(
            code=self.code,
            field=field.name,
            observed=None,
            threshold=self.threshold_shown if field is self.field else None,
            effect=effect,
            cause=_cause(unknown, field.name),
            text=self.missing_reason,
            source=field.source,
            priority=self.priority,
            confidential=self.confidential,
        )


RuleTable: TypeAlias = "tuple[tuple[str, Holds, Value | frozenset[Value], CompiledRule], ...]"
"""Rules beside what the first, fast look at them needs: field name, check and threshold."""


def rule_table(rules: tuple[CompiledRule, ...]) -> RuleTable:
    """The table of these rules, in their order."""
    return tuple((rule.field.name, rule.holds, rule.threshold, rule) for rule in rules)


def judge_all(table: RuleTable, values: Mapping[str, Value], unknown: Mapping[str, Unknown]) -> list[Reason]:
    """The reasons that the rules of a table give. Every rule is evaluated; none stops another.

    A rule whose requirement holds can give no reason whether or not it applies, so its conditions are read only where
    the requirement fails or its field is unknown.
    """
    get = values.get
    suspects = [
        rule for name, holds, threshold, rule in table if (value := get(name)) is None or not holds(value, threshold)
    ]
    return [reason for rule in suspects if (reason := rule.judge(values, unknown)) is not None]


def _cause(unknown: Mapping[str, Unknown], name: str) -> Unknown:
    return unknown.get(name, Unknown.NOT_REQUESTED)


def _distance_ppm(field: Field, value: Value, threshold: Value | frozenset[Value]) -> int:
    if field.kind not in _QUANTITIES or not isinstance(value, int) or not isinstance(threshold, int):
        return 0
    return abs(value - threshold) * 1_000_000 // max(abs(threshold), 1)
