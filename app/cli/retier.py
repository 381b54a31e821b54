"""`channel-gate retier`: tiering channels on evidence."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from app.cli.errors import CommandError
from app.cli.loan_files import month_of, read_loans
from app.cli.simulate import require_extras, tiering_policy

if TYPE_CHECKING:
    from app.tiering.policy import TieringPolicy
    from app.tiering.review import Review
    from app.tiering.terms import Standing

app = typer.Typer(name="retier", help="Tier channels on evidence.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Tier channels on evidence."""


@app.command("review")
def review_loans(  # noqa: PLR0917  # each is an option
    loans: Annotated[Path, typer.Option(help="Loans as CSV: channel, segment, funded_month and so on.")],
    as_of: Annotated[
        str | None, typer.Option(help="Month to review, as 2026-11. Default: the last one funded in.")
    ] = None,
    complete_through: Annotated[
        str | None, typer.Option(help="Last month of complete performance. Default: the month reviewed.")
    ] = None,
    tiers: Annotated[Path | None, typer.Option(help="CSV of channel and tier. Default: all in the middle one.")] = None,
    policy: Annotated[Path | None, typer.Option(help="A tiering policy as JSON. Default: the built-in one.")] = None,
    document: Annotated[Path | None, typer.Option(help="Write every figure to this JSON file.")] = None,
) -> None:
    """Review the channels of a file of loans, dry: what a re-tiering run would find, and nothing is changed.

    The reference is fitted on these very loans.
    """
    require_extras()
    found, names, standings, terms = _reviewed(
        loans, as_of=as_of, complete_through=complete_through, tiers=tiers, policy=policy
    )
    from app.tiering.review_document import review_document

    written = review_document(found, names, standings, terms)
    if document is not None:
        document.write_text(json.dumps(written, ensure_ascii=False, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    stopped = f"; every move waits: {', '.join(written['stops'])}" if written["stops"] else ""
    table = Table(
        *("channel", "O", "E", "theta", "90 %", "tier", "verdict", "P", "needed"),
        title=f"{written['as_of']}, by {terms.statistic.value}{stopped}",
    )
    own = "discounted" if terms.statistic.value == "windows" else "change_point"
    for unit in written["units"]:
        belief, verdict = unit["beliefs"][own], unit["verdict"]
        moved = f" to {verdict['tier']}" if verdict["tier"] != unit["tier"] else ""
        table.add_row(
            unit["unit"],
            f"{belief['observed']:.1f}",
            f"{belief['expected']:.1f}",
            f"{belief['mean']:.2f}",
            f"{belief['lo90']:.2f} - {belief['hi90']:.2f}",
            unit["tier"],
            f"{verdict['kind']}{moved}",
            *("" if verdict[name] is None else f"{verdict[name]:.2f}" for name in ("probability", "needed")),
        )
    Console().print(table)


def _reviewed(
    loans: Path, *, as_of: str | None, complete_through: str | None, tiers: Path | None, policy: Path | None
) -> tuple[Review, tuple[str, ...], list[Standing], TieringPolicy]:
    import numpy as np

    from app.tiering.counts import count
    from app.tiering.reference import expected_rates, fit_reference
    from app.tiering.review import Circumstances, review
    from app.tiering.terms import Life, Standing

    given, terms = read_loans(loans), tiering_policy(policy)
    now = int(given.book.funded_month.max()) if as_of is None else month_of(as_of)
    through = now if complete_through is None else month_of(complete_through)
    book = given.book.where(given.book.funded_month <= now)
    if not len(book) or through > now:
        raise CommandError("nothing was funded until the month reviewed, or performance is said to lie ahead of it")
    units, first = len(given.channels), int(book.funded_month.min())
    complete = np.full(units, through)
    try:
        reference = fit_reference(
            book,
            version=1,
            segments=given.segments,
            complete_through=complete,
            horizon_months=terms.event.horizon_months,
            pseudo_events=terms.reference.pseudo_events,
        )
    except ValueError as error:
        raise CommandError(f"{loans}: {error}") from None
    stood = _tiers(tiers, given.channels, terms)
    standings = [
        Standing(life=Life.ACTIVE, tier=tier, entered_month=first, tier_month=first, state_month=first)
        for tier in stood
    ]
    lately = np.bincount(book.unit[book.funded_month > now - 3], minlength=units)
    rates = expected_rates(reference, book, units, np.full(units, now - terms.forgetting.recent_cohorts))
    found = review(
        counts=count(
            book,
            reference,
            units=units,
            products=1,
            complete_through=complete,
            first_cohort=first,
            cohorts=now - first + 1,
        ),
        reference=reference,
        standings=standings,
        circumstances=[
            Circumstances(
                volume_share=float(lately[unit] / max(int(lately.sum()), 1)),
                expected_rate=float(rates[unit]) if np.isfinite(rates[unit]) else None,
                feed_late_days=30 * (now - through),
            )
            for unit in range(units)
        ],
        as_of=now,
        policy=terms,
    )
    return found, given.channels, standings, terms


def _tiers(file: Path | None, channels: tuple[str, ...], policy: TieringPolicy) -> list[str]:
    if file is None:
        return [policy.admitted_tier] * len(channels)
    with file.open(encoding="utf-8-sig", newline="") as opened:
        stood = {row.get("channel", ""): row.get("tier", "") for row in csv.DictReader(opened)}
    for channel in channels:
        tier = stood.setdefault(channel, policy.admitted_tier)
        if tier not in policy.tiers:
            raise CommandError(f"{file}: {channel}: {tier!r} is none of {', '.join(policy.tiers)}")
    return [stood[channel] for channel in channels]


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
