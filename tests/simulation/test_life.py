"""A world lives through its months, and the method finds in it what is there."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from app.cli import build_app
from app.domain.compiler import compile_policy
from app.policies.defaults import default_policy
from app.simulation.life import BEFORE, Life
from app.simulation.naive import NaiveRule
from app.simulation.trial import Group, applications_needed, histories, try_world
from app.simulation.world import FLEET, ORDINARY, STRESSES, ChannelPlan, World
from app.tiering.counts import count
from app.tiering.policy import DEFAULT, Statistic, TieringPolicy

GATE = compile_policy(default_policy(), version=1)
SMALL = World(
    channels=(
        *(ChannelPlan(role="average", monthly_loans=volume) for volume in (40, 80, 120, 160) * 3),
        ChannelPlan(role="bad", theta=((0, 2.5),), monthly_loans=60),
        ChannelPlan(role="changes", theta=((0, 0.9), (9, 2.5)), monthly_loans=120),
        ChannelPlan(role="good", theta=((0, 0.55),), monthly_loans=120),
        ChannelPlan(role="newcomer", monthly_loans=45, newcomer=True, enters=1),
    ),
    months=18,
    history_loans=20_000,
)


@pytest.fixture(scope="module", params=list(Statistic))
def lived(request: pytest.FixtureRequest) -> Life:
    policy: TieringPolicy = replace(DEFAULT, statistic=request.param)
    return next(histories(SMALL, GATE, policy, repetitions=1, seed=2))


def test_a_bad_channel_is_found_and_average_ones_are_left_alone(lived: Life) -> None:
    """The short form of the acceptance; `make tiering-acceptance` has the long one."""
    tiers = lived.trace.tier
    worst = len(lived.policy.tiers) - 1
    assert (tiers[:, :12] >= worst).any(axis=0).sum() <= 1
    assert (tiers[:12, 12] >= worst).any()
    assert not (tiers[:9, 13] >= worst).any()
    assert (tiers[9:17, 13] >= worst).any()
    assert not (tiers[:, 14] >= worst).any()


def test_a_newcomer_leaves_probation_by_its_record(lived: Life) -> None:
    tiers = lived.trace.tier[:, 15]
    assert tiers[1] == -1
    assert (tiers[2:] == 1).any()


def test_a_worse_tier_brings_less_business(lived: Life) -> None:
    bad = lived.trace.tier[:, 12]
    month = int((bad == 2).argmax())
    assert lived.trace.funded[month + 1 :, 12].mean() < 0.7 * lived.trace.funded[: month + 1, 12].mean()


def test_what_is_counted_month_by_month_is_what_is_counted_at_once(lived: Life) -> None:
    through = BEFORE + SMALL.months - 1
    book = lived.book()
    whole = count(
        book,
        lived.reference,
        units=len(SMALL.channels),
        products=1,
        complete_through=np.full(len(SMALL.channels), through),
        first_cohort=BEFORE,
        cohorts=SMALL.months,
    )
    kept = lived._frozen_counts
    assert kept is not None
    settled = slice(0, through - 12 - BEFORE)
    np.testing.assert_allclose(kept.observed[:, :, settled], whole.observed[:, :, settled])
    np.testing.assert_allclose(kept.expected[:, :, settled], whole.expected[:, :, settled])


def test_a_history_is_the_same_for_the_same_seed() -> None:
    short = replace(SMALL, months=5)
    one, other, third = (try_world(short, GATE, DEFAULT, repetitions=1, seed=seed).traces[0] for seed in (9, 9, 10))
    np.testing.assert_array_equal(one.funded, other.funded)
    np.testing.assert_array_equal(one.theta_mean, other.theta_mean)
    assert not np.array_equal(one.funded, third.funded)


def test_channels_fund_what_their_plans_say() -> None:
    short = replace(SMALL, months=3)
    needed = applications_needed(short, GATE, DEFAULT)
    trace = try_world(short, GATE, DEFAULT, repetitions=1).traces[0]
    planned = sum(plan.monthly_loans for plan in short.channels if not plan.newcomer)
    assert needed.min() > 0
    assert trace.funded[:, :15].sum() == pytest.approx(3 * planned, rel=0.12)


def test_a_shock_of_the_whole_book_demotes_no_more_than_it_did_before() -> None:
    shocked = replace(SMALL, shock=1.6, shock_month=6, months=14)
    trial = try_world(shocked, GATE, DEFAULT, repetitions=1, seed=2)
    average = trial.finding(Group(title="average", who=lambda plan: plan.role == "average"))
    assert average.in_worst <= 1 / 12
    assert trial.stopped_share > 0.2


def test_the_fleet_has_each_role_at_each_volume() -> None:
    assert len(FLEET) == 52
    assert {plan.monthly_loans for plan in FLEET} == {20, 50, 100, 300}
    giant = STRESSES[3].world.channels
    share = giant[0].monthly_loans / sum(plan.monthly_loans for plan in giant if not plan.newcomer)
    assert share == pytest.approx(0.6, abs=0.001)
    assert ORDINARY.months == 24
    months = [plan.changes_in for plan in FLEET if plan.changes_in is not None]
    assert len(set(months)) == len(months) == 4


def test_the_naive_rule_blames_young_books_and_poor_mixes() -> None:
    rule = NaiveRule(2)
    random = np.random.default_rng(1)
    rule.fund(random, np.zeros(100, np.int64), 0, np.where(np.arange(100) < 20, 2, 0))
    rule.fund(random, np.ones(100, np.int64), 0, np.where(np.arange(100) < 5, 2, 0))
    assert rule.found(3).tolist() == [0, 0]
    assert rule.found(4).tolist() == [1, 0]


def test_the_command_writes_what_happened(tmp_path: Path) -> None:
    loans, outcomes = tmp_path / "loans.csv", tmp_path / "months.csv"
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps({"name": "mine", "statistic": "windows"}), encoding="utf-8")
    run = CliRunner().invoke(
        build_app(),
        [
            "simulate",
            "--repetitions",
            "1",
            "--months",
            "2",
            "--policy",
            str(policy),
            "--loans",
            str(loans),
            "--outcomes",
            str(outcomes),
        ],
    )
    assert run.exit_code == 0, run.output
    assert "by windows" in run.output
    rows = list(csv.DictReader(outcomes.read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 2 * len(FLEET)
    assert sum(int(row["funded"]) for row in rows) == len(loans.read_text(encoding="utf-8").splitlines()) - 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--world", "9"], "no world 9"), (["--policy", "POLICY"], "/demotion must be an object")],
)
def test_the_command_says_what_is_wrong(tmp_path: Path, arguments: list[str], says: str) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps({"name": "mine", "demotion": 3}), encoding="utf-8")
    run = CliRunner().invoke(
        build_app(), ["simulate", *(str(policy) if each == "POLICY" else each for each in arguments)]
    )
    assert run.exit_code != 0
    assert says in str(run.exception)
