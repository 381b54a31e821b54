"""`channel-gate budgets`: what limits the accepts of channels, and how much of it is left."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncConnection

from app.channels import budgets, registry
from app.channels.budgets import BudgetLimits, BudgetScope, BudgetUse, StoredBudget
from app.cli.channels import AsJson, ReasonOption
from app.cli.errors import CommandError
from app.cli.governance import Actor, change_of, governed
from app.domain.budget import Measure, Period
from app.domain.canonical import instant_text

app = typer.Typer(name="budgets", help="Limit what channels accept.", no_args_is_help=True)

_PIPE_WIDTH = 160
ANY_CHANNEL = "*"

Channel = Annotated[str, typer.Argument(help="Code of the channel; '*' for all of them together.")]
PeriodArgument = Annotated[Period, typer.Argument(help="What makes it whole again.")]
MeasureArgument = Annotated[Measure, typer.Argument(help="What it counts.")]
LimitArgument = Annotated[int, typer.Argument(min=0, help="How much: loans, or minor units of the currency.")]
TierOption = Annotated[str | None, typer.Option(help="Of this tier alone.")]
ProductOption = Annotated[str | None, typer.Option(help="Of this product alone.")]
JurisdictionOption = Annotated[str | None, typer.Option(help="Of this jurisdiction alone.")]
CurrencyOption = Annotated[str | None, typer.Option(help="Of an amount or an expected loss.")]
OverbookingOption = Annotated[int, typer.Option(min=100, max=300, help="Percent of it that may be offered.")]
LossRateOption = Annotated[
    list[str] | None, typer.Option(help="Of an expected loss: TIER=MILLIONTHS of the amount; again for more.")
]
GrowthOption = Annotated[int | None, typer.Option(help="Percent above the mean of three months; needs --floor.")]
FloorOption = Annotated[int | None, typer.Option(help="What a month may come to at the least, beside --growth.")]
ZoneOption = Annotated[str, typer.Option(help="Where its days and months begin.")]


@app.command("list")
def list_all(
    channel: Annotated[str | None, typer.Argument(help="What an accept of this channel may fall under.")] = None,
    ended: Annotated[bool, typer.Option("--ended", help="Those that have ended; of the channel itself.")] = False,
    as_json: AsJson = False,
) -> None:
    """List budgets, each with what has been taken of its present period."""
    now = datetime.now(UTC)

    async def work(connection: AsyncConnection) -> tuple[BudgetUse, ...]:
        if channel is not None and not ended:
            found = await registry.find_channel(connection, channel)
            if found is None:
                raise CommandError("no channel has this code")
            return await budgets.uses_of_channel(connection, found.channel_id, at=now)
        uses: list[BudgetUse] = []
        while True:
            after = uses[-1].budget.budget_id if uses else None
            page = await budgets.list_uses(connection, at=now, channel=channel, ended=ended, after_id=after)
            uses.extend(page)
            if len(page) < budgets.MAX_PAGE:
                return tuple(uses)

    _print(governed(work), as_json=as_json)


@app.command("set")
def set_limits(
    *,
    channel: Channel,
    period: PeriodArgument,
    measure: MeasureArgument,
    limit: LimitArgument,
    reason: ReasonOption,
    actor: Actor,
    tier: TierOption = None,
    product: ProductOption = None,
    jurisdiction: JurisdictionOption = None,
    currency: CurrencyOption = None,
    overbooking: OverbookingOption = budgets.FULL_PCT,
    loss_rate: LossRateOption = None,
    growth: GrowthOption = None,
    floor: FloorOption = None,
    time_zone: ZoneOption = "UTC",
) -> None:
    """Open a budget, or set the limits of the one that is open."""
    scope = scope_of(channel, period, measure, tier=tier, product=product, jurisdiction=jurisdiction, currency=currency)
    limits = limits_of(limit, overbooking=overbooking, loss_rate=loss_rate, growth=growth, floor=floor)
    stored = governed(
        lambda link: budgets.set_budget(
            link,
            scope,
            limits,
            time_zone=time_zone,
            expected_revision=None,
            reason=reason,
            change=change_of(actor),
        )
    )
    typer.echo(f"budget {stored.budget_id}: {_scope_text(stored)} {stored.scope.period.value}, limit {limit}")


@app.command("end")
def end(
    number: Annotated[int, typer.Argument(min=1, help="Number of the budget.")], reason: ReasonOption, actor: Actor
) -> None:
    """End a budget: accepts take of it no more."""
    governed(lambda link: budgets.end_budget(link, number, reason=reason, change=change_of(actor)))
    typer.echo(f"budget {number} has ended")


def scope_of(
    channel: str,
    period: Period,
    measure: Measure,
    *,
    tier: str | None,
    product: str | None,
    jurisdiction: str | None,
    currency: str | None,
) -> BudgetScope:
    """The scope that the arguments name."""
    return BudgetScope(
        channel=None if channel == ANY_CHANNEL else channel,
        tier=tier,
        product=product,
        jurisdiction=jurisdiction,
        period=period,
        measure=measure,
        currency=currency,
    )


def limits_of(
    limit: int, *, overbooking: int, loss_rate: list[str] | None, growth: int | None, floor: int | None
) -> BudgetLimits:
    """The limits that the arguments name.

    Raises:
        typer.BadParameter: where a rate is no TIER=MILLIONTHS.
    """
    limits = BudgetLimits(limit=limit, overbooking_pct=overbooking, growth_pct=growth, floor=floor)
    if not loss_rate:
        return limits
    rates = {}
    for each in loss_rate:
        tier, _, rate = each.partition("=")
        if not tier or not rate.isdigit():
            raise typer.BadParameter("write a rate as risk=85000", param_hint="--loss-rate")
        rates[tier] = int(rate)
    return replace(limits, loss_rate_ppm=rates)


def _print(found: tuple[BudgetUse, ...], *, as_json: bool) -> None:
    if as_json:
        for use in found:
            typer.echo(orjson.dumps(_shown(use)).decode())
        return
    table = Table("no", "scope", "period", "measure", "limit", "cap", "reserved", "posted", "left", "resets", box=None)
    for use in found:
        scope = use.budget.scope
        table.add_row(
            str(use.budget.budget_id),
            _scope_text(use.budget),
            scope.period.value,
            scope.measure.value if scope.currency is None else f"{scope.measure.value} {scope.currency}",
            *(str(units) for units in (use.budget.limits.limit, use.cap, use.reserved, use.posted, use.left)),
            "" if use.ends_at is None else f"{use.ends_at:%Y-%m-%d %H:%M}Z",
        )
    Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, markup=False, highlight=False).print(table)


def _scope_text(budget: StoredBudget) -> str:
    scope = budget.scope
    return " ".join(part for part in (scope.channel or "*", scope.tier, scope.product, scope.jurisdiction) if part)


def _shown(use: BudgetUse) -> dict[str, Any]:
    scope, limits = use.budget.scope, use.budget.limits
    return {
        "budget_id": use.budget.budget_id,
        "channel": scope.channel,
        "tier": scope.tier,
        "product": scope.product,
        "jurisdiction": scope.jurisdiction,
        "period": scope.period.value,
        "measure": scope.measure.value,
        "currency": scope.currency,
        "limit": limits.limit,
        "overbooking_pct": limits.overbooking_pct,
        "growth_pct": limits.growth_pct,
        "floor": limits.floor,
        "cap": use.cap,
        "reserved": use.reserved,
        "posted": use.posted,
        "left": use.left,
        "ends_at": None if use.ends_at is None else instant_text(use.ends_at),
    }
