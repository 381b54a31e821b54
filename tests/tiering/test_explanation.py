"""A review in sentences."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from app.tiering.explanation import explain
from app.tiering.policy import DEFAULT, Statistic
from app.tiering.review import Circumstances, review
from app.tiering.terms import Blocker, Cause, Kind, Mode
from tests.tiering.books import NOW, standing
from tests.tiering.test_review import REFERENCE, THETA, chance_book, counted, run


@pytest.mark.parametrize("statistic", Statistic)
def test_a_demotion_is_told_with_its_figures(statistic: Statistic) -> None:
    policy = replace(DEFAULT, statistic=statistic)
    assessment = run(policy=policy).assessments[0]
    told = " ".join(explain(standing(), assessment, policy))
    own = assessment.discounted if statistic is Statistic.WINDOWS else assessment.change_point
    assert f"{own.observed:.1f} of its loans" in told
    assert f"{own.mean:.2f}" in told
    probability = assessment.verdict.probability
    assert probability is not None
    certainty = "above 0.99" if probability > 0.99 else f"{probability:.2f}"
    assert f"above 1.30 is {certainty}; it takes at least" in told
    assert "It moves from general to risk: more of its loans went bad than of loans like them." in told
    assert "applies at once" in told


def test_whoever_stays_is_told_so() -> None:
    told = explain(standing(), run().assessments[4], DEFAULT)
    assert told[-1] == "It stays in general."


def test_what_holds_a_promotion_back_is_told() -> None:
    assessment = run().assessments[4]
    waiting = replace(
        assessment,
        verdict=replace(
            assessment.verdict, cause=Cause.GOOD_RECORD, blockers=(Blocker.FIRST_REVIEW, Blocker.LATE_FEED)
        ),
    )
    told = explain(standing(), waiting, DEFAULT)[-1]
    assert told.startswith("It is not moved up yet: it takes another review in a row")
    assert "silent data is not good news" in told


def test_an_alarm_is_told() -> None:
    theta = THETA[:3]
    loans = chance_book(np.random.default_rng(1), loans=2_000, theta=theta, model=REFERENCE)
    done = review(
        counts=counted(loans, 3),
        reference=REFERENCE,
        standings=[standing()] * 3,
        circumstances=[Circumstances(volume_share=0.01, alarm=True)] * 3,
        as_of=NOW,
        policy=DEFAULT,
    )
    assert "on watch" in explain(standing(), done.assessments[1], DEFAULT)[-1]


def test_every_verdict_has_words() -> None:
    assessment = run().assessments[0]
    for kind, cause, mode in product(Kind, set(Cause) - {Cause.NONE}, Mode):
        verdict = replace(
            assessment.verdict, kind=kind, cause=cause, mode=mode, probability=0.5, needed=0.9, threshold=1.0
        )
        told = explain(standing(), replace(assessment, verdict=verdict), DEFAULT)
        assert len(told) == 4
