"""A whole run: what it finds in books that were drawn, and what stops it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from app.tiering.counts import Counts, count
from app.tiering.loans import LoanBook, loan_book
from app.tiering.policy import DEFAULT, SafeguardPolicy, Statistic, TieringPolicy
from app.tiering.reference import ReferenceModel
from app.tiering.review import Circumstances, Review, Stop, review
from app.tiering.terms import Kind, Mode
from tests.tiering.books import NOW, chance_book, model, standing

REFERENCE = model((0.0, *(0.006,) * 11), (0.0, *(0.012,) * 11))
THETA = (2.2, *(0.93,) * 19)
OPEN = replace(DEFAULT, safeguards=SafeguardPolicy(moved_volume_share=1.0, moved_channels_share=1.0))


def counted(loans: LoanBook, units: int) -> Counts:
    return count(
        loans,
        REFERENCE,
        units=units,
        products=1,
        complete_through=np.full(units, NOW),
        first_cohort=NOW - 24,
        cohorts=25,
    )


def run(theta: tuple[float, ...] = THETA, policy: TieringPolicy = DEFAULT, **changes: Any) -> Review:
    loans = chance_book(np.random.default_rng(11), loans=1_200 * len(theta), theta=theta, model=REFERENCE)
    units = len(theta)
    given: dict[str, Any] = {
        "reference": REFERENCE,
        "standings": [standing()] * units,
        "circumstances": [Circumstances(volume_share=0.8 / units, expected_rate=0.09, loss_appetite=0.2)] * units,
    } | changes
    return review(counts=counted(loans, units), as_of=NOW, policy=policy, **given)


@pytest.mark.parametrize("statistic", Statistic)
def test_a_bad_channel_is_found_and_no_other(statistic: Statistic) -> None:
    found = run(policy=replace(DEFAULT, statistic=statistic))
    assert found.stops == ()
    assert [verdict.kind for verdict in found.verdicts] == [Kind.DEMOTE] + [Kind.STAY] * 19
    assessment = found.assessments[0]
    assert assessment.discounted.mean == pytest.approx(2.1, abs=0.3)
    assert assessment.change_point.mean == pytest.approx(2.1, abs=0.3)


def test_a_run_is_the_same_twice() -> None:
    one, other = run(), run()
    assert one.verdicts == other.verdicts
    assert one.nu == other.nu


def test_a_shock_of_the_whole_book_moves_nobody() -> None:
    found = run((1.7,) * 20)
    assert Stop.BOOK_SHIFTED in found.stops
    assert all(verdict.mode in {Mode.NONE, Mode.HELD} for verdict in found.verdicts)


def test_a_large_channel_that_moves_the_book_is_told_from_a_shock() -> None:
    loans = chance_book(np.random.default_rng(3), loans=30_000, theta=(2.4, *(1.0,) * 9), model=REFERENCE)
    giant = loan_book(
        unit=np.where(np.arange(len(loans)) < 18_000, 0, loans.unit),
        segment=loans.segment,
        funded_month=loans.funded_month,
        event_month=np.where(
            np.arange(len(loans)) < 18_000, np.where(np.arange(len(loans)) % 5 == 0, 2, 0), loans.event_month
        ),
    )
    found = review(
        counts=counted(giant, 10),
        reference=REFERENCE,
        standings=[standing()] * 10,
        circumstances=[Circumstances(volume_share=0.01, loss_appetite=0.5)] * 10,
        as_of=NOW,
        policy=DEFAULT,
    )
    assert Stop.LARGE_CHANNEL_SHIFTED in found.stops
    assert found.verdicts[0].kind is Kind.DEMOTE
    assert found.verdicts[0].mode is Mode.HELD


def test_many_moves_at_once_wait_for_a_person() -> None:
    theta = (2.4,) * 3 + (0.75,) * 17
    found = run(theta)
    assert found.stops == (Stop.TOO_MANY_CHANNELS,)
    assert [verdict.mode for verdict in found.verdicts[:3]] == [Mode.HELD] * 3
    assert {verdict.mode for verdict in run(theta, OPEN).verdicts[:3]} == {Mode.AT_ONCE}


def test_much_volume_waits_for_a_person() -> None:
    circumstances = [Circumstances(volume_share=0.16, expected_rate=0.09, loss_appetite=0.2)]
    circumstances += [Circumstances(volume_share=0.84 / 19, expected_rate=0.09, loss_appetite=0.2)] * 19
    assert run(circumstances=circumstances).stops == (Stop.TOO_MUCH_VOLUME,)


@pytest.mark.parametrize("changes", [{"events": 299}, {"months": 11}, {"events": 0, "months": 0}])
def test_a_cold_start_is_dry(changes: dict[str, int]) -> None:
    cold = ReferenceModel(
        version=1,
        segments=REFERENCE.segments,
        hazards=REFERENCE.hazards.copy(),
        events=changes.get("events", 1_000),
        months=changes.get("months", 24),
    )
    found = run(reference=cold)
    assert found.stops == (Stop.COLD_START,)
    assert found.verdicts[0].mode is Mode.HELD


def test_a_run_needs_a_standing_for_each_unit() -> None:
    with pytest.raises(ValueError, match="for each unit"):
        run(standings=[standing()])


def test_a_mix_that_loses_money_is_a_reason_of_its_own() -> None:
    circumstances = [Circumstances(volume_share=0.05, expected_rate=0.09, loss_appetite=0.06)] * 20
    found = run(policy=OPEN, circumstances=circumstances)
    assert found.assessments[5].evidence.appetite_ratio == pytest.approx(0.06 / 0.09 / found.assessments[5].kappa)
    assert found.assessments[5].verdict.kind is Kind.DEMOTE
