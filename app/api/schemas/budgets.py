"""Budgets, as the API shows and takes them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from app.api.schemas.common import AnswerModel, Code, Jurisdiction, ProductCode, Reason, RequestModel, TierCode
from app.channels.budgets import FULL_PCT, BudgetLimits, BudgetScope, BudgetUse
from app.domain.budget import PPM, Measure, Period

MAX_UNITS = 2**53
_MAX_OVERBOOKING_PCT, _MAX_GROWTH_PCT, _MAX_TIERS = 300, 1000, 50

Units = Annotated[int, Field(ge=0, le=MAX_UNITS, description="Loans, or minor units of the currency.")]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
OverbookingPct = Annotated[
    int,
    Field(
        ge=FULL_PCT,
        le=_MAX_OVERBOOKING_PCT,
        description="What open offers and funded loans may come to together, in percent of the limit.",
    ),
]
LossRates = Annotated[
    dict[TierCode, Annotated[int, Field(ge=0, le=PPM)]],
    Field(
        max_length=_MAX_TIERS,
        description="Expected loss of a unit of money by tier, in millionths; of an expected loss alone.",
    ),
]
GrowthPct = Annotated[
    int,
    Field(
        ge=0, le=_MAX_GROWTH_PCT, description="Of a month, over the mean of what the three months before have funded."
    ),
]
TimeZone = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_+/-]{1,64}$"),
    Field(description="Where its days and months begin: a name of the IANA time zone database."),
]


class BudgetQuery(RequestModel):
    """A page of budgets in the order in which they were opened."""

    channel: Annotated[Code | None, Field(description="Those of this channel alone.")] = None
    ended: Annotated[bool, Field(description="Those that have ended instead of those that hold.")] = False
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str | None, Field(max_length=200, description="`next_cursor` of the page before.")] = None


class BudgetFields(RequestModel):
    """A budget to open: its scope, of which null means any, and its limits."""

    channel: Annotated[Code | None, Field(description="Null: all channels together.")] = None
    tier: TierCode | None = None
    product: ProductCode | None = None
    jurisdiction: Jurisdiction | None = None
    period: Annotated[Period, Field(description="What makes it whole again: a day, a month, or repayment alone.")]
    measure: Measure
    currency: Annotated[Currency | None, Field(description="Null for a count, and for nothing else.")] = None
    limit: Units
    overbooking_pct: OverbookingPct = FULL_PCT
    loss_rate_ppm: LossRates | None = None
    growth_pct: GrowthPct | None = None
    floor: Annotated[Units | None, Field(description="What a month may come to at the least, beside `growth_pct`.")] = (
        None
    )
    time_zone: TimeZone = "UTC"

    def scope(self) -> BudgetScope:
        """What it is for."""
        return BudgetScope(
            channel=self.channel,
            tier=self.tier,
            product=self.product,
            jurisdiction=self.jurisdiction,
            period=self.period,
            measure=self.measure,
            currency=self.currency,
        )

    def limits(self) -> BudgetLimits:
        """How much of it there is."""
        return BudgetLimits(
            limit=self.limit,
            overbooking_pct=self.overbooking_pct,
            loss_rate_ppm=self.loss_rate_ppm,
            growth_pct=self.growth_pct,
            floor=self.floor,
        )


class BudgetOpening(BudgetFields):
    """A budget to open, and why."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "channel": "search-ads",
                    "period": "monthly",
                    "measure": "amount",
                    "currency": "CNY",
                    "limit": 5_000_000_000,
                    "overbooking_pct": 120,
                    "growth_pct": 30,
                    "floor": 500_000_000,
                    "time_zone": "Asia/Shanghai",
                    "reason": "growth within bounds",
                }
            ]
        }
    )

    reason: Reason


class BudgetAmendment(RequestModel):
    """What changes; what is absent stays. A null clears `growth_pct` and `floor`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"limit": 40, "reason": "losses of the autumn"}]})

    limit: Units | None = None
    overbooking_pct: OverbookingPct | None = None
    loss_rate_ppm: LossRates | None = None
    growth_pct: GrowthPct | None = None
    floor: Units | None = None
    reason: Reason

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.model_fields_set - {"reason"}:
            raise PydanticCustomError("gate_amendment_empty", "must change something")
        for name in ("limit", "overbooking_pct", "loss_rate_ppm"):
            if name in self.model_fields_set and getattr(self, name) is None:
                raise PydanticCustomError(f"gate_{name}_null", f"{name} must not be null")
        return self

    def changes(self) -> dict[str, Any]:
        """The limits that were given."""
        return {name: getattr(self, name) for name in self.model_fields_set if name != "reason"}


class BudgetEnding(RequestModel):
    """Why a budget ends."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "replaced by one for each product"}]})

    reason: Reason


# What is answered -----------------------------------------------------------------------------------------------------


class BudgetDocument(AnswerModel):
    """A budget, and what has been taken of it in its period [starts_at, ends_at)."""

    budget_id: int
    channel: Annotated[str | None, Field(description="Null: all channels together.")]
    tier: str | None
    product: str | None
    jurisdiction: str | None
    period: Period
    measure: Measure
    currency: str | None
    limit: int
    overbooking_pct: int
    loss_rate_ppm: dict[str, int] | None
    growth_pct: int | None
    floor: int | None
    time_zone: str
    cause: Annotated[str, Field(description="`probation`: what a channel on probation has; else `manual`.")]
    created_at: datetime
    ended_at: datetime | None
    revision: Annotated[int, Field(description="The number in the ETag; grows with every change.")]
    starts_at: Annotated[datetime | None, Field(description="Null where it has no begin.")]
    ends_at: Annotated[datetime | None, Field(description="When it resets; null where it does not.")]
    cap: Annotated[int, Field(description="The most of this period: the limit, or less where growth allows less.")]
    reserved: Annotated[int, Field(description="Held by accepts that are open.")]
    posted: Annotated[int, Field(description="Taken by loans that were funded.")]
    left: Annotated[int, Field(description="What accepts may take now.")]

    @classmethod
    def of(cls, use: BudgetUse) -> Self:
        """The document of a budget and its use."""
        budget, scope, limits = use.budget, use.budget.scope, use.budget.limits
        return cls(
            budget_id=budget.budget_id,
            channel=scope.channel,
            tier=scope.tier,
            product=scope.product,
            jurisdiction=scope.jurisdiction,
            period=scope.period,
            measure=scope.measure,
            currency=scope.currency,
            limit=limits.limit,
            overbooking_pct=limits.overbooking_pct,
            loss_rate_ppm=None if limits.loss_rate_ppm is None else dict(limits.loss_rate_ppm),
            growth_pct=limits.growth_pct,
            floor=limits.floor,
            time_zone=budget.time_zone,
            cause=budget.cause,
            created_at=budget.created_at,
            ended_at=budget.ended_at,
            revision=budget.revision,
            starts_at=use.starts_at,
            ends_at=use.ends_at,
            cap=use.cap,
            reserved=use.reserved,
            posted=use.posted,
            left=use.left,
        )


class BudgetPage(AnswerModel):
    """One page of budgets, as of `at`."""

    at: datetime
    items: tuple[BudgetDocument, ...]
    next_cursor: str | None


class ChannelBudgets(AnswerModel):
    """Every budget that an accept of the channel may fall under, as of `at`."""

    at: datetime
    channel: str
    items: tuple[BudgetDocument, ...]
