"""A simulated month is decided by the gate's own rules, within its budgets."""

from __future__ import annotations

import numpy as np
import pytest

from app.domain.compiler import compile_policy
from app.policies.defaults import default_policy
from app.simulation.applicants import Applicants, batch_of, draw
from app.simulation.gate import decide
from app.simulation.outcomes import draw_events, yearly_rate
from app.simulation.world import EVENT_SHAPE, ORDINARY
from app.tiering.loans import loan_book
from app.tiering.reference import fit_reference
from app.whatif.columns import Refusal
from app.whatif.evaluation import OUTCOMES, evaluate
from app.whatif.per_row import check_rows

GATE = compile_policy(default_policy(), version=1)
STATES = ("active", "active", "active", "probation", "suspended")
TIERS = ("prime", "general", "risk", "general", "general")


def people(count: int, seed: int = 1) -> tuple[np.random.Generator, Applicants]:
    random = np.random.default_rng(seed)
    return random, draw(random, random.integers(0, len(STATES), count), np.full(count, 690.0))


def test_the_hot_path_decides_every_simulated_application_alike() -> None:
    random, applicants = people(400)
    budget = random.random(400) < 0.5
    batch = batch_of(applicants, STATES, TIERS, budget_available=budget)
    evaluation = evaluate(batch, GATE)
    assert (evaluation.refusals == Refusal.NONE).all()
    assert len(check_rows(GATE, batch, np.arange(400), evaluation)) == 400
    assert {OUTCOMES[code] for code in evaluation.outcomes.tolist()} == set(OUTCOMES)


def test_a_better_tier_lets_more_people_in_and_a_suspended_channel_nobody() -> None:
    random, applicants = people(5_000)
    month = decide(
        random,
        GATE,
        applicants,
        states=STATES,
        tiers=TIERS,
        limits=np.full(5, 5_000),
    )
    funded = np.bincount(applicants.channel[month.funded], minlength=5)
    assert funded[0] > funded[1] > funded[2] > 0
    assert funded[4] == 0
    assert month.held.sum() == 0


def test_no_channel_funds_more_than_its_budget_and_what_is_over_is_held() -> None:
    random, applicants = people(5_000)
    limits = np.array([10, 0, 3, 50, 5])
    month = decide(random, GATE, applicants, states=STATES, tiers=TIERS, limits=limits)
    funded = np.bincount(applicants.channel[month.funded], minlength=5)
    assert (funded <= limits).all()
    assert (month.accepted <= limits).all()
    assert month.held[0] > 0


def test_events_come_as_often_and_when_the_world_says() -> None:
    random, applicants = people(200_000)
    rate = yearly_rate(applicants.score, applicants.has_file)
    event, exit_month = draw_events(
        random,
        ORDINARY,
        rate=rate,
        theta=np.full(rate.size, 2.0),
        funded_month=random.integers(0, 12, rate.size),
        score=applicants.score,
    )
    nobody = np.zeros(rate.size, np.int64)
    book = loan_book(unit=nobody, segment=nobody, funded_month=nobody, event_month=event, exit_month=exit_month)
    fitted = fit_reference(
        book, version=1, segments=("all",), complete_through=np.array([12]), horizon_months=12, pseudo_events=0.0
    )
    assert fitted.rates()[0] == pytest.approx((1.0 - (1.0 - rate) ** 2.0).mean(), rel=0.05)
    assert not (event == 1).any()
    first_payments = (event == 2).sum() / (event > 0).sum()
    assert first_payments == np.clip(first_payments, EVENT_SHAPE[1], EVENT_SHAPE[1] * 1.5)
    assert not ((event > 0) & (exit_month > 0)).any()
