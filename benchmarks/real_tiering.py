"""Real channels, tiered year by year: `make real-tiering` (DATA_DIR says where the loans are).

MoneyLion's funded loans have the year of the application and a final status, no dates of default. So the event is the
default of a resolved loan, one period, and a review is a year. The first year classifies and gives the reference; the
next ones are seen arriving. Segments are declared attributes of the applicant: how often they are paid, and how loans
of their state fared in the first year. The price of the lead and the channel are no inputs. Open loans are left out.
"""

from __future__ import annotations

import csv
import gzip
import os
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from app.tiering.counts import count
from app.tiering.loans import LoanBook, loan_book
from app.tiering.moves import next_standing
from app.tiering.policy import DEFAULT
from app.tiering.reference import ReferenceModel, fit_reference
from app.tiering.review import Circumstances, Review, review
from app.tiering.terms import Life, Standing

DEFAULT_DATA_DIR = "../shared/data"
_FILE = "moneylion_funded.csv.gz"
_YEARS = (2015, 2016, 2017)
_STATE_BANDS = 3
_FEW = 40
"""Loans of a state in the first year below which its band is the middle one."""
POLICY = replace(DEFAULT, event=replace(DEFAULT.event, horizon_months=1, fpd_month_on_book=1))


class _Loan(NamedTuple):
    channel: str
    year: int
    pay: str
    state: str
    bad: bool


def _read(file: Path) -> list[_Loan]:
    with gzip.open(file, "rt", encoding="utf-8", newline="") as rows:
        return [
            _Loan(
                row["channel"],
                int(row["applicationYear"]),
                row["payFrequency"],
                row["state"],
                row["default_flag"] == "1",
            )
            for row in csv.DictReader(rows)
            if row["default_flag"] in {"0", "1"} and row["applicationYear"] in map(str, _YEARS)
        ]


def _state_bands(loans: list[_Loan]) -> dict[str, int]:
    """States by how their loans fared in the first year, in thirds; few loans are drawn to the middle."""
    outcomes: dict[str, list[bool]] = defaultdict(list)
    for loan in loans:
        if loan.year == _YEARS[0]:
            outcomes[loan.state].append(loan.bad)
    rates = {state: float(np.mean(bad)) for state, bad in outcomes.items() if len(bad) >= _FEW}
    edges = np.quantile(list(rates.values()), [1 / _STATE_BANDS, 2 / _STATE_BANDS])
    bands = {state: int(np.searchsorted(edges, rate)) for state, rate in rates.items()}
    return {state: bands.get(state, _STATE_BANDS // 2) for state in {loan.state for loan in loans}}


def _columns(loans: list[_Loan]) -> tuple[LoanBook, tuple[str, ...], tuple[str, ...]]:
    channels = tuple(sorted({loan.channel for loan in loans}))
    frequencies = tuple(sorted({loan.pay for loan in loans}))
    bands = _state_bands(loans)
    book = loan_book(
        unit=np.array([channels.index(loan.channel) for loan in loans]),
        segment=np.array([frequencies.index(loan.pay) * _STATE_BANDS + bands[loan.state] for loan in loans]),
        funded_month=np.array([_cohort(loan.year) for loan in loans]),
        event_month=np.array([int(loan.bad) for loan in loans]),
    )
    segments = tuple(f"paid {each or '?'}, state band {band}" for each in frequencies for band in range(_STATE_BANDS))
    return book, channels, segments


def _cohort(year: int) -> int:
    """A year's loans as one cohort, whose one period ends with the year's review."""
    return 12 * year + 11


def _review(book: LoanBook, reference: ReferenceModel, standings: list[Standing], year: int) -> Review:
    units, as_of = len(standings), _cohort(year) + 1
    seen = book.where(book.funded_month <= _cohort(year))
    first = _cohort(_YEARS[0])
    lately = np.bincount(seen.unit[seen.funded_month == _cohort(year)], minlength=units)
    return review(
        counts=count(
            seen,
            reference,
            units=units,
            products=1,
            complete_through=np.full(units, as_of),
            first_cohort=first,
            cohorts=as_of - first + 1,
        ),
        reference=reference,
        standings=standings,
        circumstances=[
            # What a default costs here is unknown: without margin and loss there is no appetite to hold a mix against.
            Circumstances(volume_share=float(lately[unit] / lately.sum()), loss_appetite=1.0)
            for unit in range(units)
        ],
        as_of=as_of,
        policy=POLICY,
    )


def main() -> int:
    """Print each year's review."""
    file = Path(os.environ.get("DATA_DIR", DEFAULT_DATA_DIR)) / _FILE
    console = Console(width=140)
    if not file.exists():
        console.print(f"{file} is not there: nothing to tier")
        return 0
    book, channels, segments = _columns(_read(file))
    first = book.where(book.funded_month == _cohort(_YEARS[0]))
    fitted = fit_reference(
        first,
        version=1,
        segments=segments,
        complete_through=np.full(len(channels), _cohort(_YEARS[0]) + 1),
        horizon_months=1,
        pseudo_events=POLICY.reference.pseudo_events,
    )
    reference = replace(fitted, months=12)  # a year of loans, though their months are unknown
    begun = _cohort(_YEARS[0]) - 12
    standings = [
        Standing(life=Life.ACTIVE, tier="general", entered_month=begun, tier_month=begun, state_month=begun)
        for _ in channels
    ]
    for year in _YEARS:
        done = _review(book, reference, standings, year)
        level = f"kappa {done.recent.raw[0]:.2f}, nu {done.nu:.1f}, stopped: {', '.join(done.stops) or 'no'}"
        table = Table(
            *("channel", "loans", "bad", "O / E", "theta", "90 %", "verdict", "how", "tier after"),
            title=f"{year}: {level}",
            title_justify="left",
        )
        for unit, assessment in enumerate(done.assessments):
            loans = (book.unit == unit) & (book.funded_month == _cohort(year))
            verdict, own = assessment.verdict, assessment.change_point
            # Whoever reads a held or proposed move here would let it through: it is shown what that comes to.
            standings[unit] = next_standing(standings[unit], verdict, _cohort(year) + 1, applied=True)
            window = assessment.recent
            table.add_row(
                channels[unit],
                str(int(loans.sum())),
                f"{100 * (book.event_month[loans] > 0).mean():.1f} %" if loans.any() else "",
                f"{window.observed:.0f} / {window.expected:.0f} = {window.observed / window.expected:.2f}"
                if window.expected
                else "",
                f"{own.mean:.2f}",
                f"{own.quantile(0.05):.2f} - {own.quantile(0.95):.2f}",
                verdict.kind.value,
                verdict.mode.value,
                standings[unit].tier,
            )
        console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
