"""Decides a batch of rows under a policy as the hot path would decide each of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from app.domain.channel import ChannelState, Standing
from app.domain.compiled import CompiledPolicy
from app.domain.fields import SETTLEMENT_FIELDS
from app.domain.policy import Product
from app.domain.reasons import BUDGET_EXHAUSTED_CODE, TIER_UNKNOWN_CODE, NextAction, Outcome
from app.whatif.arrays import Codes, Flags, Index, Integers
from app.whatif.ceilings import debt_ratios_after_loan, find_ceilings
from app.whatif.columns import Column, PolicyColumns
from app.whatif.judging import EFFECTS, ESCALATES, PASSES, judge
from app.whatif.standing import standing_under

OUTCOMES: Final = (Outcome.ACCEPT, Outcome.ESCALATE, Outcome.REJECT)
"""Outcomes by code: the severity of the most severe effect."""
ACTIONS: Final = (NextAction.PROCEED, NextAction.REVIEW, NextAction.DECLINE, NextAction.COUNTER_OFFER, NextAction.HELD)
REFUSED: Final = len(OUTCOMES)
"""The outcome's code where the policy would not decide: see `Evaluation.refusals`."""

_COUNTER_OFFER = ACTIONS.index(NextAction.COUNTER_OFFER)
_HELD = ACTIONS.index(NextAction.HELD)
_BUDGET = "budget.available"
_FACTS = frozenset(field.name for field in SETTLEMENT_FIELDS)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """What a policy comes to on every row of a batch; each array has a cell a row.

    `reasons` has a row for each of `codes`. Where the outcome is `REFUSED`, everything else is 0 or false.
    """

    outcomes: Codes
    actions: Codes
    refusals: Codes
    ceilings: Integers
    binding: Codes
    """The cap that binds: a position in `app.whatif.ceilings.CAPS`."""
    offered: Integers
    """The amount of the counter-offer, 0 where there is none."""
    tiers: Integers
    """The tier that each row stands in: a position in `tier_codes`."""
    tier_codes: tuple[str, ...]
    codes: tuple[str, ...]
    reasons: Flags


class _Stratum(NamedTuple):
    """Rows that are decided by one set of rules: of one product, in one standing."""

    rows: Index
    product: Product
    standing: Standing


class _Judged:
    """The answer while it is made: what gives a reason to a row makes its outcome worse."""

    def __init__(self, policy: CompiledPolicy, rows: int) -> None:
        self.codes = policy.codes
        self._positions = {code: position for position, code in enumerate(self.codes)}
        self.reasons: Flags = np.zeros((len(self.codes), rows), np.bool_)
        self.outcomes: Codes = np.zeros(rows, np.uint8)
        self.ceilings: Integers = np.zeros(rows, np.int64)
        self.binding: Codes = np.zeros(rows, np.uint8)
        self.offered: Integers = np.zeros(rows, np.int64)
        self.held = np.zeros(rows, np.bool_)

    def add(self, code: str, rows: Index, effects: Codes | int) -> None:
        """A reason of some rows."""
        self.reasons[self._positions[code], rows] = True
        self.outcomes[rows] = np.maximum(self.outcomes[rows], effects)


def evaluate(batch: pa.RecordBatch, policy: CompiledPolicy) -> Evaluation:
    """Decide every row of `batch`, all of which hold a request, under `policy`.

    The batch has the columns of `app.whatif.schema`, at least the context's and those that the policy needs.
    """
    columns = PolicyColumns(batch, policy)
    count = columns.rows
    judged = _Judged(policy, count)
    judged.outcomes[columns.refusals > 0] = REFUSED
    standings, standing_of = _standings(columns, policy)
    for stratum in _strata(columns, policy, standings, standing_of):
        _decide(policy, stratum, columns, judged)
    actions = np.where(judged.outcomes < REFUSED, judged.outcomes, 0).astype(np.uint8)
    actions[judged.offered > 0] = _COUNTER_OFFER
    actions[judged.held] = _HELD
    tier_codes = tuple(dict.fromkeys(standing.tier for standing in standings))
    by_standing = np.array([tier_codes.index(standing.tier) for standing in standings] or [0], np.int64)
    return Evaluation(
        outcomes=judged.outcomes,
        actions=actions,
        refusals=columns.refusals,
        ceilings=judged.ceilings,
        binding=judged.binding,
        offered=judged.offered,
        tiers=by_standing[standing_of],
        tier_codes=tier_codes,
        codes=judged.codes,
        reasons=judged.reasons,
    )


def _standings(columns: PolicyColumns, policy: CompiledPolicy) -> tuple[tuple[Standing, ...], Integers]:
    """The different standings under this policy, but for whether the channel is served; and that of each row."""
    states, state_texts = columns.texts("channel_state")
    tiers, tier_texts = columns.texts("assigned_tier")
    width = len(tier_texts) + 1
    pairs, standing_of = np.unique(states * width + tiers + 1, return_inverse=True)
    standings = tuple(
        standing_under(
            policy,
            channel_code="",
            state=ChannelState(state_texts[pair // width]),
            served=True,
            assigned=(None, *tier_texts)[pair % width],
        )
        for pair in pairs.tolist()
    )
    return standings, standing_of.astype(np.int64)


def _strata(
    columns: PolicyColumns, policy: CompiledPolicy, standings: tuple[Standing, ...], standing_of: Integers
) -> Iterator[_Stratum]:
    products = columns.products
    names = products.names()
    decided = np.flatnonzero(columns.refusals == 0)
    keys = products.values[decided] * max(len(standings), 1) + standing_of[decided]
    order = np.argsort(keys, kind="stable")
    found, starts = np.unique(keys[order], return_index=True)
    bounds = np.append(starts, decided.size)
    for key, start, end in zip(found.tolist(), bounds[:-1], bounds[1:], strict=True):
        product, standing = divmod(key, len(standings))
        rows = decided[order[start:end]]
        yield _Stratum(rows, policy.products[names[product]], standings[standing])


def _decide(policy: CompiledPolicy, stratum: _Stratum, whole: PolicyColumns, judged: _Judged) -> None:
    """Decide one stratum: `app.domain.screening.screen` and `app.domain.settlement.settle`, step by step."""
    rows, product, standing = stratum
    taken: dict[str, Column] = {}

    def columns(name: str) -> Column:
        found = taken.get(name)
        if found is None:
            found = taken[name] = whole.column(name).take(rows)
        return found

    taken["application.missing_fields"] = Column(
        values=np.zeros(rows.size, np.int64), known=np.zeros(rows.size, np.bool_)
    )
    missing = sum((~columns(name).known).astype(np.int64) for name in product.mandatory)
    taken["application.missing_fields"] = Column(
        values=np.broadcast_to(np.asarray(missing, np.int64), rows.shape), known=np.ones(rows.size, np.bool_)
    )
    rules = policy.rules(standing.rules_tier)
    for *_, rule in rules.request:
        hit, effects = judge(rule, columns)
        judged.add(rule.code, rows[hit], effects)
    found_ceilings = find_ceilings(policy, standing.ceiling_tier, product, columns)
    amounts = columns("amount").values
    if rules.ceiling:
        at_most = np.minimum(amounts, found_ceilings.amounts)
        taken["dti_after_loan_pct"] = debt_ratios_after_loan(found_ceilings, at_most, columns)
        for *_, rule in rules.ceiling:
            hit, effects = judge(rule, columns)
            judged.add(rule.code, rows[hit], effects)
    if standing.tier not in policy.tiers:
        judged.add(TIER_UNKNOWN_CODE, rows, ESCALATES)

    terms = policy.ceiling
    clean = judged.outcomes[rows] == PASSES
    unverified = np.flatnonzero(found_ceilings.unverified != PASSES)
    judged.add(terms.code, rows[unverified], found_ceilings.unverified[unverified])
    exceeded = amounts > found_ceilings.amounts
    too_small = found_ceilings.amounts < product.minimum_amount
    for effect, where in ((terms.below_minimum_effect, exceeded & too_small), (terms.effect, exceeded & ~too_small)):
        hit = np.flatnonzero(where)
        judged.add(terms.code, rows[hit], EFFECTS[effect])
    offerable = clean & exceeded & ~too_small & (found_ceilings.unverified == PASSES)
    offerable &= judged.outcomes[rows] == ESCALATES

    limited = np.zeros(rows.size, np.bool_)
    otherwise = judged.outcomes[rows] != PASSES
    for rule in rules.settlement:
        gathered = np.ones(rows.size, np.bool_)
        for name in rule.fields & _FACTS:
            gathered &= columns(name).known
        hit, effects = judge(rule, columns)
        kept = gathered[hit]
        judged.add(rule.code, rows[hit[kept]], effects[kept])
        offerable[hit[kept]] = False
        (limited if rule.field.name == _BUDGET else otherwise)[hit[kept]] = True
    budget = columns(_BUDGET)
    hit = np.flatnonzero(budget.known & (budget.values == 0) & ~limited)
    judged.add(BUDGET_EXHAUSTED_CODE, rows[hit], ESCALATES)
    limited[hit] = True
    offerable[hit] = False
    judged.held[rows] = limited & ~otherwise
    judged.ceilings[rows] = found_ceilings.amounts
    judged.binding[rows] = found_ceilings.binding
    judged.offered[rows[offerable]] = found_ceilings.amounts[offerable]
