"""Sets of values and of states of one field, as lint reasons about them: exact unions, intersections and containment.

A set here may be larger than what applications can really carry, never smaller: what is empty here happens nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple, TypeAlias

from app.domain.application import Unknown
from app.domain.fields import SETTLEMENT_FIELDS, Field, FieldKind, Value
from app.domain.policy import Op, PolicyDocument

_BEYOND = 10**40
"""Past everything that a ratio of bounded amounts can come to."""

_ALWAYS_KNOWN = frozenset(
    {
        *("amount", "term_months", "product", "channel.served", "application.missing_fields"),
        *(field.name for field in SETTLEMENT_FIELDS),  # a rule on a fact is evaluated only where the fact was gathered
    }
)

Interval: TypeAlias = "tuple[int, int]"
"""Both ends included."""


class Numbers(NamedTuple):
    """Whole numbers as sorted, disjoint intervals that do not touch."""

    intervals: tuple[Interval, ...]

    @property
    def empty(self) -> bool:
        """Whether nothing is in it."""
        return not self.intervals

    def intersect(self, other: Numbers) -> Numbers:
        """What is in both."""
        found, i, j = [], 0, 0
        while i < len(self.intervals) and j < len(other.intervals):
            (low, high), (other_low, other_high) = self.intervals[i], other.intervals[j]
            if max(low, other_low) <= min(high, other_high):
                found.append((max(low, other_low), min(high, other_high)))
            if high < other_high:
                i += 1
            else:
                j += 1
        return Numbers(tuple(found))

    def without(self, other: Numbers) -> Numbers:
        """What is in this and not in the other."""
        return self.intersect(other.complement())

    def complement(self) -> Numbers:
        """Every other number."""
        found, start = [], -_BEYOND
        for low, high in self.intervals:
            if start < low:
                found.append((start, low - 1))
            start = high + 1
        if start <= _BEYOND:
            found.append((start, _BEYOND))
        return Numbers(tuple(found))

    def within(self, other: Numbers) -> bool:
        """Whether all of it is in the other."""
        return self.without(other).empty


class Texts(NamedTuple):
    """Either these texts, or every text but these."""

    named: frozenset[str]
    all_but: bool

    @property
    def empty(self) -> bool:
        """Whether nothing is in it."""
        return not self.all_but and not self.named

    def intersect(self, other: Texts) -> Texts:
        """What is in both."""
        match self.all_but, other.all_but:
            case True, True:
                return Texts(self.named | other.named, all_but=True)
            case True, False:
                return Texts(other.named - self.named, all_but=False)
            case False, True:
                return Texts(self.named - other.named, all_but=False)
            case _:
                return Texts(self.named & other.named, all_but=False)

    def complement(self) -> Texts:
        """Every other text."""
        return Texts(self.named, all_but=not self.all_but)

    def without(self, other: Texts) -> Texts:
        """What is in this and not in the other."""
        return self.intersect(other.complement())

    def within(self, other: Texts) -> bool:
        """Whether all of it is in the other."""
        return self.without(other).empty


Values: TypeAlias = "Numbers | Texts"


def intersection(one: Values, other: Values) -> Values:
    """What is in both; both are of the same field."""
    if isinstance(one, Numbers) and isinstance(other, Numbers):
        return one.intersect(other)
    assert isinstance(one, Texts)
    assert isinstance(other, Texts)
    return one.intersect(other)


def contained(one: Values, other: Values) -> bool:
    """Whether all of the first is in the second; both are of the same field."""
    return intersection(one, other.complement()).empty


@dataclass(frozen=True, slots=True)
class States:
    """What a field may be at some point: one of these values, or unknown for one of these causes."""

    values: Values
    causes: frozenset[Unknown]

    @property
    def empty(self) -> bool:
        """Whether no application has the field so."""
        return self.values.empty and not self.causes

    def intersect(self, other: States) -> States:
        """What is in both."""
        return States(intersection(self.values, other.values), self.causes & other.causes)

    def within(self, other: States) -> bool:
        """Whether all of it is in the other."""
        return self.causes <= other.causes and contained(self.values, other.values)


def holding(field: Field, op: Op, threshold: Value | frozenset[Value]) -> Values:
    """The values that meet a requirement; none lies outside what the field's kind can hold."""
    if op is Op.KNOWN:
        return _everything(field)
    options = threshold if isinstance(threshold, frozenset) else frozenset({threshold})
    if field.kind is FieldKind.TEXT:
        named = frozenset(str(option) for option in options)
        return Texts(named, all_but=op in {Op.IS_NOT, Op.NONE_OF})
    numbers = sorted(int(option) for option in options)
    if op in {Op.IS_NOT, Op.NONE_OF}:
        return _points(numbers).complement()
    least, most = {
        Op.AT_LEAST: (numbers[0], _BEYOND),
        Op.ABOVE: (numbers[0] + 1, _BEYOND),
        Op.AT_MOST: (-_BEYOND, numbers[0]),
        Op.BELOW: (-_BEYOND, numbers[0] - 1),
    }.get(op, (None, None))
    return _points(numbers) if least is None or most is None else Numbers(((least, most),))


def _points(numbers: Iterable[int]) -> Numbers:
    intervals: list[Interval] = []
    for number in numbers:
        if intervals and intervals[-1][1] + 1 >= number:
            intervals[-1] = (intervals[-1][0], number)
        else:
            intervals.append((number, number))
    return Numbers(tuple(intervals))


def _everything(field: Field) -> Values:
    if field.kind is FieldKind.TEXT:
        return Texts(frozenset(), all_but=True)
    return Numbers(((-_BEYOND, _BEYOND),))


def possible_states(policy: PolicyDocument, fields: Mapping[str, Field], product: str | None) -> dict[str, States]:
    """What each field may be in an application that the policy reads; for one product, or for any where None."""
    return {
        name: States(_range(policy, field, product), frozenset() if name in _ALWAYS_KNOWN else frozenset(Unknown))
        for name, field in fields.items()
    }


def _range(policy: PolicyDocument, field: Field, product: str | None) -> Values:
    """The values that intake lets through, or that the gate can derive. Derived ones may pass the declared range."""
    products = list(policy.products.values()) if product is None else [policy.products[product]]
    if field.kind is FieldKind.TEXT:
        named = {"product": [each.code for each in products], "jurisdiction": policy.jurisdictions}.get(field.name)
        return _everything(field) if named is None else Texts(frozenset(named), all_but=False)
    by_name: Mapping[str, Interval] = {
        "amount": (min(each.minimum_amount for each in products), field.maximum),
        "term_months": (min(each.term_minimum for each in products), max(each.term_maximum for each in products)),
        "application.missing_fields": (0, max(len(each.mandatory) for each in products)),
        **dict.fromkeys(("applicant.age_years", "bureau.age_days"), (0, _BEYOND)),
        **dict.fromkeys(("existing_dti_pct", "dti_after_loan_pct"), (0, _BEYOND)),
    }
    by_kind: Mapping[FieldKind, Interval] = {
        FieldKind.CHOICE: (0, len(field.choices) - 1),
        FieldKind.BOOLEAN: (0, 1),
        FieldKind.DATE: (date.min.toordinal(), date.max.toordinal()),
    }
    return Numbers((by_name.get(field.name) or by_kind.get(field.kind) or (field.minimum, field.maximum),))
