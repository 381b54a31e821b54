"""`channel-gate simulate`: a world of channels of known quality goes through the gate's rules and is tiered."""

from __future__ import annotations

import csv
import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from app.cli.errors import CommandError
from app.cli.loan_files import COLUMNS
from app.domain.compiler import compile_policy
from app.extras import how_to_install
from app.policies.defaults import default_policy

if TYPE_CHECKING:
    from app.simulation.life import Life, Trace
    from app.simulation.world import World
    from app.tiering.policy import TieringPolicy

app = typer.Typer()

_FIRST_MONTH = 12 * 2025
"""What the first month of a history is called in files: 2025-01."""


@app.command("simulate")
def simulate(  # noqa: PLR0917  # each is an option
    repetitions: Annotated[int, typer.Option(min=1, max=10_000, help="Histories to live through.")] = 3,
    months: Annotated[int, typer.Option(min=1, max=120, help="Months of each history.")] = 24,
    seed: Annotated[int, typer.Option(min=0, help="Of the first history; the next ones count up.")] = 1,
    world: Annotated[int, typer.Option(min=0, help="0: the ordinary world. From 1: a stressed one.")] = 0,
    policy: Annotated[Path | None, typer.Option(help="A tiering policy as JSON. Default: the built-in one.")] = None,
    loans: Annotated[Path | None, typer.Option(help="Write the loans of the first history to this CSV file.")] = None,
    outcomes: Annotated[
        Path | None, typer.Option(help="Write each channel's months of the first history to this CSV file.")
    ] = None,
) -> None:
    """Try tiering in a simulated world: what became of average, good and bad channels."""
    require_extras()
    from app.simulation.acceptance import HEADS, criteria, row
    from app.simulation.trial import Trial, histories, ordinary_groups

    chosen = replace(_world(world), months=months)
    terms = tiering_policy(policy)
    gate = compile_policy(default_policy(), version=1)
    traces: list[Trace] = []
    for life in histories(chosen, gate, terms, repetitions=repetitions, seed=seed):
        if not traces:
            _write(life, loans, outcomes)
        traces.append(life.trace)
    trial = Trial(world=chosen, policy=terms, traces=tuple(traces))
    table = Table(*HEADS, title=f"{repetitions} histories of {months} months, by {terms.statistic.value}")
    for group in ordinary_groups():
        if any(group.who(plan) and (plan.changes_in or 0) < months for plan in chosen.channels):
            table.add_row(*row(trial.finding(group)))
    console = Console()
    console.print(table)
    if world == 0 and months >= 24:
        for criterion in criteria(trial):
            console.print(f"{'kept' if criterion.kept else 'NOT KEPT'}: {criterion.promise}: {criterion.measured}")


def require_extras() -> None:
    """Say what to install where the statistics or the columns are not there."""
    for extra, module in (("tiering", "scipy"), ("whatif", "pyarrow")):
        if importlib.util.find_spec(module) is None:
            raise CommandError(f"this needs the extra {extra}: {how_to_install(extra)}")  # type: ignore[arg-type]


def _world(number: int) -> World:
    from app.simulation.world import ORDINARY, STRESSES

    worlds = (ORDINARY, *(stress.world for stress in STRESSES))
    if number >= len(worlds):
        raise CommandError(f"there is no world {number}: they go up to {len(worlds) - 1}")
    return worlds[number]


def tiering_policy(file: Path | None) -> TieringPolicy:
    """The policy of a JSON file, the built-in one without."""
    from app.tiering.policy import DEFAULT
    from app.tiering.policy_document import TieringPolicyError, read_policy

    if file is None:
        return DEFAULT
    try:
        return read_policy(json.loads(file.read_text(encoding="utf-8")))
    except (TieringPolicyError, ValueError) as error:
        raise CommandError(f"{file}: {error}") from None


def _write(life: Life, loans: Path | None, outcomes: Path | None) -> None:
    """What the first history came to, for whoever wants to load it elsewhere."""
    from app.simulation.life import BEFORE
    from app.simulation.world import SEGMENTS
    from app.tiering.review_document import month_text

    codes = [f"{plan.kind.value}-{number:02d}" for number, plan in enumerate(life.world.channels)]
    if loans is not None:
        with loans.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            columns = life.loans
            for unit, segment, funded, event, left, amount in zip(
                *(columns[name].tolist() for name in ("unit", "segment", "funded_month", "event_month", "exit_month")),
                columns["amount"].tolist(),
                strict=True,
            ):
                funded_in = month_text(_FIRST_MONTH + funded - BEFORE)
                writer.writerow([codes[unit], SEGMENTS[segment], funded_in, event or "", left or "", amount])
    if outcomes is not None:
        tiers = ("probation", *life.policy.tiers, "out of business")
        with outcomes.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["month", "channel", "role", "theta", "funded", "tier", "on_watch", "theta_mean"])
            for month in range(life.world.months):
                for channel, plan in enumerate(life.world.channels):
                    writer.writerow(
                        [
                            month_text(_FIRST_MONTH + month),
                            codes[channel],
                            plan.role,
                            plan.theta_at(month),
                            int(life.trace.funded[month, channel]),
                            tiers[int(life.trace.tier[month, channel]) + 1],
                            int(life.trace.watched[month, channel]),
                            f"{life.trace.theta_mean[month, channel]:.4f}",
                        ]
                    )
