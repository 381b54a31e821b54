"""Where a rule acts in one tier, how severely, and whether another rule acts there anyway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product as combinations
from math import prod

from app.domain.application import Unknown
from app.domain.compiled import CompiledPolicy
from app.domain.fields import Field, Stage, Value
from app.domain.policy import Condition, Effect, IfMissing, Rule
from app.domain.regions import States, Values, contained, holding, possible_states
from app.domain.requirements import encode_threshold

SEVERITY = {Effect.PASS: 0, Effect.ESCALATE: 1, Effect.REJECT: 2}

_MAX_COMBINATIONS = 4_096
"""Past this many ways of knowing and not knowing fields, nothing is said about a pair of rules."""

_PRODUCT_DEPENDENT = frozenset({"product", "amount", "term_months", "application.missing_fields"})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TierRule:
    """A rule as it holds for one tier.

    `boxes` are the fields' states in which it gives a reason, one box for each product that it tells apart: it acts
    where every field is in its part of one box.
    """

    rule: Rule
    tier: str
    field: Field
    conditions: tuple[tuple[Condition, Field, Values], ...]
    failing: Values
    possible: Mapping[str, States]
    boxes: tuple[Mapping[str, States], ...]
    names: frozenset[str]
    narrow: frozenset[str]
    """Of the fields that it reads, those that are not free to be anything."""
    facts: frozenset[str]
    """Of the fields that it reads, those that only the transaction knows."""

    def why_dead(self) -> tuple[str, str] | None:
        """Why it can never give a reason, as column and detail; None where it may."""
        if any(_reached(box) for box in self.boxes):
            return None
        for name in dict.fromkeys(condition.field for condition, _, _ in self.conditions):
            states = [_condition_states(*each, self.possible[name]) for each in self.conditions if each[1].name == name]
            meet = self.possible[name]
            for state in states:
                meet = meet.intersect(state)
            if meet.empty:
                return "when", f"no application fulfils what it says of {name}"
        if self.failing_possible_empty:
            column = f"thresholds.{self.tier}"
            return column, f"every value that {self.field.name} can have passes, and unknown passes too"
        return "when", f"where its conditions hold, {self.field.name} always passes"

    @property
    def failing_possible_empty(self) -> bool:
        """Whether no state of its own field gives a reason, whatever the conditions say."""
        own = States(self.failing, _adverse_causes(_if_missing(self.rule, self.tier)))
        return self.possible[self.field.name].intersect(own).empty

    @property
    def only_unknown(self) -> bool:
        """Whether no value fails, so that it acts on unknown ones alone."""
        return all(box[self.field.name].values.empty for box in self.boxes if _reached(box))

    @property
    def always_fires(self) -> bool:
        """Whether it gives a reason for every application; what fields may be is an upper bound, so this is sure."""
        return (
            all(self.possible[name].within(states) for box in self.boxes for name, states in box.items())
            and len(self.boxes) == 1
        )

    def fails_within(self, other: TierRule) -> bool:
        """Whether every possible value that fails here fails there."""
        return contained(
            self.possible[self.field.name].intersect(States(self.failing, frozenset())).values, other.failing
        )

    def effect(self, known: Mapping[str, Unknown | None]) -> Effect:
        """The effect of the reason that it gives where its fields are known or not in this way, and it acts."""
        cause = known[self.field.name]
        if cause is not None:
            return _if_missing(self.rule, self.tier).effect(cause)
        for condition, field, _ in self.conditions:
            unknown = known[field.name]
            if unknown is not None:
                return condition.if_missing.effect(unknown)
        return self.rule.effect[self.tier]


def tier_rules(policy: CompiledPolicy, tier: str) -> dict[str, TierRule]:
    """The rules that apply to a tier, by code."""
    everywhere = possible_states(policy.document, policy.fields, None)
    by_product = {code: possible_states(policy.document, policy.fields, code) for code in policy.products}
    return {
        rule.code: _tier_rule(policy, rule, tier, everywhere, by_product)
        for rule in policy.document.rules
        if rule.thresholds[tier] is not None
    }


def _tier_rule(
    policy: CompiledPolicy,
    rule: Rule,
    tier: str,
    everywhere: Mapping[str, States],
    by_product: Mapping[str, Mapping[str, States]],
) -> TierRule:
    field = policy.fields[rule.field]
    raw = rule.thresholds[tier]
    assert raw is not None
    failing = holding(field, rule.op, encode_threshold(field, rule.op, raw)).complement()
    conditions = tuple(
        (condition, policy.fields[condition.field], _condition_values(policy.fields[condition.field], condition))
        for condition in rule.when
    )
    fields = (field, *(each for _, each, _ in conditions))
    names = frozenset(each.name for each in fields)
    told_apart: tuple[str | None, ...] = tuple(policy.products) if names & _PRODUCT_DEPENDENT else (None,)
    boxes = []
    for code in told_apart:
        possible = everywhere if code is None else by_product[code]
        own = States(failing, _adverse_causes(_if_missing(rule, tier)))
        box = {name: possible[name] for name in names}
        if code is not None:
            box["product"] = possible["product"]
        box[field.name] = box[field.name].intersect(own)
        for condition, condition_field, values in conditions:
            states = _condition_states(condition, condition_field, values, possible[condition_field.name])
            box[condition_field.name] = box[condition_field.name].intersect(states)
        boxes.append(box)
    return TierRule(
        rule=rule,
        tier=tier,
        field=field,
        conditions=conditions,
        failing=failing,
        possible=everywhere,
        boxes=tuple(boxes),
        names=names,
        narrow=frozenset(name for name in names for box in boxes if not everywhere[name].within(box[name])),
        facts=frozenset(each.name for each in fields if each.stage is Stage.SETTLEMENT),
    )


def _condition_values(field: Field, condition: Condition) -> Values:
    threshold: Value | frozenset[Value] = encode_threshold(field, condition.op, condition.value)
    return holding(field, condition.op, threshold)


def _condition_states(condition: Condition, _field: Field, values: Values, possible: States) -> States:
    return possible.intersect(States(values, _adverse_causes(condition.if_missing)))


def _if_missing(rule: Rule, tier: str) -> IfMissing:
    return rule.if_missing or IfMissing(default=rule.effect[tier], by_cause={})


def _adverse_causes(if_missing: IfMissing) -> frozenset[Unknown]:
    return frozenset(cause for cause in Unknown if if_missing.effect(cause) is not Effect.PASS)


def _reached(box: Mapping[str, States]) -> bool:
    return not any(states.empty for states in box.values())


# One rule beside another ----------------------------------------------------------------------------------------------


def covers(strict: TierRule, row: TierRule) -> bool:
    """Whether, wherever `row` gives a reason, `strict` gives one that is at least as severe.

    A rule that needs facts is evaluated only where they were gathered, so it covers none that needs fewer.
    """
    if not strict.narrow <= row.names or strict.facts - row.facts:
        return False
    return all(
        any(_box_within(row, box, other) for other in strict.boxes) and _as_severe(strict, row, box)
        for box in row.boxes
        if _reached(box)
    )


def _box_within(row: TierRule, box: Mapping[str, States], other: Mapping[str, States]) -> bool:
    """Whether every state of the box is one of the other's; a field that the box does not name may be anything."""
    return all(box.get(name, row.possible[name]).within(states) for name, states in other.items())


def _as_severe(strict: TierRule, row: TierRule, box: Mapping[str, States]) -> bool:
    """Whether the effect is no milder in each way in which the fields of the two may be known or unknown there."""
    names = sorted({row.field.name, strict.field.name, *(f.name for _, f, _ in (*row.conditions, *strict.conditions))})
    ways: list[Sequence[Unknown | None]] = []
    for name in names:
        states = box.get(name, row.possible[name])
        ways.append([*states.causes, *(() if states.values.empty else (None,))])
    if prod(len(way) for way in ways) > _MAX_COMBINATIONS:
        return False
    for way in combinations(*ways):
        known = dict(zip(names, way, strict=True))
        if SEVERITY[strict.effect(known)] < SEVERITY[row.effect(known)]:
            return False
    return True
