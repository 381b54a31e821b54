"""Aggregate limits: which of them an accept falls under, and how many units it takes of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple, NewType, TypeAlias

BudgetId = NewType("BudgetId", int)

PPM: Final = 1_000_000


class Measure(StrEnum):
    """What a budget counts."""

    COUNT = "count"
    AMOUNT = "amount"
    EXPECTED_LOSS = "expected_loss"


class Period(StrEnum):
    """What makes a budget whole again: a new day or month in its time zone; an outstanding one only repayment."""

    DAILY = "daily"
    MONTHLY = "monthly"
    OUTSTANDING = "outstanding"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A limit over a scope, of which None means any. How much is left, only the database knows.

    `currency` is that of what is measured, None for a count. `loss_rate_ppm` is the expected loss of a unit of money
    by tier, in millionths (probability of default x loss given default x exposure), empty for other measures.
    """

    budget_id: BudgetId
    measure: Measure
    channel_id: int | None = None
    tier: str | None = None
    product: str | None = None
    jurisdiction: str | None = None
    currency: str | None = None
    loss_rate_ppm: Mapping[str, int] | None = None

    def covers(self, channel_id: int, tier: str, product: str, jurisdiction: str | None, currency: str) -> bool:
        """Whether an accept of that kind falls under it."""
        return (
            self.channel_id in {None, channel_id}
            and self.tier in {None, tier}
            and self.product in {None, product}
            and (self.jurisdiction is None or self.jurisdiction == jurisdiction)
            and self.currency in {None, currency}
        )

    def units(self, amount: int, tier: str) -> int:
        """What an accept of `amount` (minor units) takes. A tier without a rate loses everything: never too little."""
        match self.measure:
            case Measure.COUNT:
                return 1
            case Measure.AMOUNT:
                return amount
            case Measure.EXPECTED_LOSS:
                rate = (self.loss_rate_ppm or {}).get(tier, PPM)
                return -(-amount * rate // PPM)


class Line(NamedTuple):
    """Units of one budget that one accept takes."""

    budget_id: BudgetId
    units: int


_Scope: TypeAlias = tuple[int, str, str, str | None, str]


class BudgetBook:
    """The open budgets as they were at one revision of the database."""

    __slots__ = ("_by_scope", "budgets", "revision")

    def __init__(self, revision: int, budgets: Iterable[Budget]) -> None:
        self.revision = revision
        self.budgets = tuple(budgets)
        self._by_scope: dict[_Scope, tuple[Budget, ...]] = {}

    def lines(
        self, *, channel_id: int, tier: str, product: str, jurisdiction: str | None, currency: str, amount: int
    ) -> tuple[Line, ...]:
        """What an accept would take, of every budget that covers it; empty where none does."""
        if not self.budgets:
            return ()
        scope = (channel_id, tier, product, jurisdiction, currency)
        found = self._by_scope.get(scope)
        if found is None:
            # Scopes are few: listed channels by tiers, products, regions. What grows is bounded by them.
            found = self._by_scope[scope] = tuple(budget for budget in self.budgets if budget.covers(*scope))
        return tuple([Line(budget.budget_id, budget.units(amount, tier)) for budget in found])


NO_BUDGETS: Final = BudgetBook(-1, ())
