"""Rules over columns: what `CompiledRule.judge` says of one application, said of many at once.

The three values of a requirement are the same: it holds, it fails, or its field is unknown for a cause. So are the
operators: `app.domain.requirements.OPERATORS` declares each in both forms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np

from app.domain.fields import FieldKind
from app.domain.policy import Effect, IfMissing, Op
from app.domain.requirements import OPERATORS, CompiledCondition, CompiledRule
from app.whatif.arrays import Codes, Flags, Index
from app.whatif.columns import CAUSES, Column

Columns: TypeAlias = Callable[[str], Column]
"""A field of the rows at hand by its name."""

PASSES, ESCALATES, REJECTS = 0, 1, 2
EFFECTS: Final = {Effect.PASS: PASSES, Effect.ESCALATE: ESCALATES, Effect.REJECT: REJECTS}
"""Effects as numbers: the larger is the more severe."""


def judge(rule: CompiledRule, columns: Columns) -> tuple[Index, Codes]:
    """The rows to which the rule gives a reason, in order, and the effect that it has on each."""
    column = columns(rule.field.name)
    suspects: Index = np.flatnonzero(~(holds(rule, column) & column.known))
    if not suspects.size:
        return suspects, np.empty(0, np.uint8)
    known = column.known[suspects]
    effects = np.where(known, np.uint8(EFFECTS[rule.effect]), _missing_effects(rule.if_missing, column, suspects))
    undecided: Flags = np.zeros(suspects.size, np.bool_)
    applies: Flags = np.ones(suspects.size, np.bool_)
    for condition in rule.when:
        observed = columns(condition.field.name).take(suspects)
        missing = _missing_effects(condition.if_missing, observed, slice(None))
        applies &= np.where(observed.known, holds(condition, observed), missing != PASSES)
        first = ~observed.known & ~undecided & known  # where the rule's own field is unknown too, that one is said
        effects[first] = missing[first]
        undecided |= ~observed.known
    adverse = applies & (effects != PASSES)
    return suspects[adverse], effects[adverse]


def holds(requirement: CompiledRule | CompiledCondition, column: Column) -> Flags:
    """Whether each value meets the threshold; says nothing of unknown ones."""
    threshold = requirement.threshold
    if requirement.field.kind is FieldKind.TEXT and requirement.op is not Op.KNOWN:
        threshold = column.code_of(threshold)
    verdicts: Flags = OPERATORS[requirement.op].column(column.values, threshold)
    return verdicts


def missing_effects(if_missing: IfMissing) -> Codes:
    """The effect of each cause, by its code."""
    return np.array([EFFECTS[if_missing.effect(cause)] for cause in CAUSES], np.uint8)


def _missing_effects(if_missing: IfMissing, column: Column, rows: Index | slice) -> Codes:
    effects: Codes = missing_effects(if_missing)[column.cause_codes()[rows]]
    return effects
