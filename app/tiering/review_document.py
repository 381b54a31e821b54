"""A review as a document: every figure that it rests on and came to, for a store, an export, or whoever repeats it."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

from app.tiering.arrays import Floats
from app.tiering.belief import Belief
from app.tiering.calibration import Calibration
from app.tiering.explanation import explain
from app.tiering.policy import TieringPolicy
from app.tiering.policy_document import write_policy
from app.tiering.review import Assessment, Review
from app.tiering.terms import Standing


def review_document(
    review: Review, units: Sequence[str], standings: Sequence[Standing], policy: TieringPolicy
) -> dict[str, Any]:
    """All of a review as plain JSON values, units in the order in which they were reviewed.

    standings: where each unit stood before. What is unknown is null. Floats are written in full, so that a review that
    is repeated on the same inputs gives the same document.

    Raises:
        ValueError: where there are not as many units or standings as were reviewed.
    """
    return {
        "as_of": month_text(review.as_of),
        "policy": write_policy(policy),
        "reference_version": review.reference_version,
        "nu": review.nu,
        "nu_found": review.nu_found,
        "level": {"discounted": _level(review.discounted), "recent": _level(review.recent)},
        "stops": [stop.value for stop in review.stops],
        "units": [
            _unit(unit, standing, assessment, policy)
            for unit, standing, assessment in zip(units, standings, review.assessments, strict=True)
        ],
    }


def month_text(number: int) -> str:
    """A calendar month (`loans.month_number`) as it is written: 2026-11."""
    return f"{number // 12:04d}-{number % 12 + 1:02d}"


def _level(level: Calibration) -> dict[str, Any]:
    return {"raw": _numbers(level.raw), "raw_without_large_units": _numbers(level.raw_of_others)}


def _numbers(cells: Floats) -> list[float | None]:
    return [float(cell) if isfinite(cell) else None for cell in cells]


def _unit(unit: str, standing: Standing, assessment: Assessment, policy: TieringPolicy) -> dict[str, Any]:
    evidence, verdict = assessment.evidence, assessment.verdict
    return {
        "unit": unit,
        "tier": standing.tier,
        "life": standing.life.value,
        "kappa": assessment.kappa,
        "beliefs": {
            "discounted": _belief(assessment.discounted),
            "recent": _belief(assessment.recent),
            "change_point": _belief(assessment.change_point),
            "since_worst": _belief(assessment.since_worst),
        },
        "appetite_ratio": evidence.appetite_ratio,
        "break_even_theta": evidence.break_even_theta,
        "unprofitable_probability": evidence.unprofitable(),
        "volume_share": evidence.volume_share,
        "alarm": evidence.alarm,
        "feed_late_days": evidence.feed_late_days,
        "frauds": evidence.frauds,
        "funded": evidence.funded,
        "verdict": {
            "kind": verdict.kind.value,
            "mode": verdict.mode.value,
            "cause": verdict.cause.value,
            "tier": verdict.tier,
            "life": verdict.life.value,
            "probability": verdict.probability,
            "needed": verdict.needed,
            "threshold": verdict.threshold,
            "freeze": verdict.freeze,
            "watch_until": None if verdict.watch_until is None else month_text(verdict.watch_until),
            "good_reviews": verdict.good_reviews,
            "unprofitable_reviews": verdict.unprofitable_reviews,
            "blockers": [blocker.value for blocker in verdict.blockers],
        },
        "explanation": list(explain(standing, assessment, policy)),
    }


def _belief(belief: Belief) -> dict[str, float]:
    return {
        "observed": belief.observed,
        "expected": belief.expected,
        "mean": belief.mean,
        "lo90": belief.quantile(0.05),
        "hi90": belief.quantile(0.95),
    }
