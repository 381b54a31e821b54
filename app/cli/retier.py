"""`channel-gate retier`: tiering channels on evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from app.cli.simulate import require_extras, tiering_policy

app = typer.Typer(name="retier", help="Tier channels on evidence.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Tier channels on evidence."""


@app.command("calibrate")
def calibrate(  # noqa: PLR0917  # each is an option
    loans_a_month: Annotated[list[int], typer.Option("--loans-a-month", min=1, help="A channel's; again for more.")],
    rate_pct: Annotated[float, typer.Option(min=0.01, max=90, help="Expected 12-month 30+ rate, in percent.")] = 5.5,
    probability: Annotated[
        list[float] | None, typer.Option(min=0.5, max=1.0, help="Of a demotion; again for more.")
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="A tiering policy as JSON. Default: the built-in one.")] = None,
    channels: Annotated[int, typer.Option(min=10, max=10_000, help="Channels drawn of each kind and volume.")] = 200,
    months: Annotated[int, typer.Option(min=18, max=60, help="How long they are looked at.")] = 24,
    seed: Annotated[int, typer.Option(min=0)] = 1,
) -> None:
    """How often an average channel would be demoted, and a bad one found, at your volumes and by threshold."""
    require_extras()
    import numpy as np

    from app.simulation.power import power

    terms = tiering_policy(policy)
    table = Table(
        *(
            "loans a month",
            "P at least",
            "theta 1 demoted",
            "theta 1.5 found",
            "theta 2.5 in 12 m.",
            "after",
            "1 -> 2.5 after",
        ),
        title=f"within {months} months, by {terms.statistic.value}, at {rate_pct:g} %",
    )
    for volume in loans_a_month:
        for found in power(
            terms,
            loans_a_month=volume,
            rate=rate_pct / 100.0,
            probabilities=tuple(probability or (0.6, 0.7, 0.8, 0.9, 0.95)),
            channels=channels,
            months=months,
            random=np.random.default_rng(seed),
        ):
            table.add_row(
                str(volume),
                f"{found.probability:.2f}",
                *(f"{100 * share:.1f} %" for share in (found.false, found.mild, found.bad_in_year)),
                *("-" if after is None else f"{after:g}" for after in (found.bad_after, found.changed_after)),
            )
    Console().print(table)
