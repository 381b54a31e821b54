"""What a budget costs where all traffic falls under it: one server, two channels alike but for the budget, in turns.

Every accept of the budgeted channel takes its unit of the same row, whose lock is held until the commit is durable; the
question is how much of the throughput is left. Both channels are served by the same workers from the same database.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import count
from statistics import median

import asyncpg
from rich.console import Console
from rich.table import Table

from app.channels import budgets, registry, tiers
from app.channels.budgets import BudgetLimits, BudgetScope
from app.db.changes import Change
from app.db.engine import make_engine
from app.domain.budget import Measure, Period
from app.domain.channel import ChannelKind, ChannelState
from benchmarks.ground import Cores, Ground, ground, server_process
from benchmarks.load import LoadPlan, LoadResult, run_load

_SERVE = ("-c", "from app.cli import main; main()", "serve")
_CHANGE = Change(actor="benchmark", request_id="benchmark")
_WITH, _WITHOUT = "bench-budgeted", "bench-free"
_PLENTY = 10**12


def measure_budgets(
    *, rounds: int, seconds: float, connections: int, workers: int, budget_count: int, console: Console
) -> None:
    """Measure and print both, and the ratio."""
    results: dict[str, list[LoadResult]] = {_WITHOUT: [], _WITH: []}
    with ExitStack() as stack:
        everywhere = Cores(server=frozenset(), others=frozenset())  # four workers have all cores, as the load has
        place = stack.enter_context(ground(everywhere))
        asyncio.run(_prepare(place, budget_count))
        environment = {"GATE_WORKERS": str(workers)}
        server = stack.enter_context(
            server_process("budgets", _SERVE, place, cores=everywhere.server, environment=environment)
        )
        runs = count(1)
        for turn in range(rounds):
            for channel in (_WITHOUT, _WITH) if turn % 2 == 0 else (_WITH, _WITHOUT):
                plan = LoadPlan(
                    port=server.port,
                    key=place.keys["origination"],
                    server_pid=server.pid,
                    run=next(runs),
                    connections=connections,
                    warm_up_seconds=min(1.0, seconds / 2),
                    seconds=seconds,
                    channel=channel,
                )
                results[channel].append(run_load(plan, everywhere.others))
        taken, accepted = asyncio.run(_taken(place))
    table = Table(title=f"{workers} workers, {connections} connections, {rounds} turns each", title_justify="left")
    for name in ("channel", "req/s", "p50 ms", "p99 ms"):
        table.add_column(name, justify="left" if name == "channel" else "right")
    for title, channel in (("without a budget", _WITHOUT), (f"with {budget_count}", _WITH)):
        found = results[channel]
        table.add_row(
            title,
            f"{median(one.per_second for one in found):,.0f}",
            f"{median(one.p50_ms for one in found):.1f}",
            f"{median(one.p99_ms for one in found):.1f}",
        )
    console.print(table)
    ratios = [one.per_second / other.per_second for one, other in zip(results[_WITH], results[_WITHOUT], strict=True)]
    console.print(f"with over without: {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}); aim: 0.80")
    console.print(f"taken of the first budget: {taken:,} by {accepted:,} accepts of the channel")


async def _prepare(place: Ground, budget_count: int) -> None:
    engine = make_engine(place.urls.governance, pool_size=1, autocommit=True)
    now = datetime.now(UTC)
    scopes = [
        BudgetScope(channel=_WITH, period=Period.MONTHLY, measure=Measure.COUNT),
        BudgetScope(channel=_WITH, period=Period.DAILY, measure=Measure.AMOUNT, currency="CNY"),
        BudgetScope(channel=_WITH, period=Period.OUTSTANDING, measure=Measure.AMOUNT, currency="CNY"),
    ]
    async with engine.connect() as connection:
        for code in (_WITH, _WITHOUT):
            registration = registry.Registration(
                code=code,
                name=code,
                kind=ChannelKind.ONLINE,
                owner="benchmark",
                state=ChannelState.ACTIVE,
                valid_from=now - timedelta(days=1),
                valid_to=None,
                agreement_id=None,
                services=(),
            )
            await registry.register(connection, registration, reason="benchmark", change=_CHANGE)
            await tiers.assign(
                connection,
                code,
                tiers.Scope(),
                tier="prime",
                valid_from=now,
                valid_to=None,
                cause=tiers.Cause.INITIAL,
                reason="benchmark",
                change=_CHANGE,
            )
        for scope in scopes[:budget_count]:
            await budgets.set_budget(
                connection,
                scope,
                BudgetLimits(limit=_PLENTY),
                time_zone="UTC",
                expected_revision=None,
                reason="benchmark",
                change=_CHANGE,
            )
    await engine.dispose()


async def _taken(place: Ground) -> tuple[int, int]:
    """Units reserved of the first budget, and the accepts that there are: the same number, or units were lost."""
    connection = await asyncpg.connect(place.superuser_url)
    try:
        taken = await connection.fetchval(
            "SELECT coalesce(sum(p.reserved), 0)::bigint FROM gate.budget_periods p JOIN gate.budgets b"
            " USING (budget_id) JOIN gate.channels c USING (channel_id) WHERE c.code = $1 AND b.period = 'monthly'",
            _WITH,
        )
        accepted = await connection.fetchval(
            "SELECT count(*) FROM gate.decisions WHERE channel_code = $1 AND outcome = 'accept'", _WITH
        )
    finally:
        await connection.close()
    return taken, accepted
