"""A re-tiering run: from counts, standings and circumstances to every figure and verdict, and what stops them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from app.tiering.arrays import Floats
from app.tiering.belief import Belief, posterior
from app.tiering.calibration import Calibration, calibrate
from app.tiering.change_point import present_beliefs
from app.tiering.counts import Counts, Window, forget, recent, since
from app.tiering.moves import judge, stop
from app.tiering.policy import Statistic, TieringPolicy
from app.tiering.prior import fit_prior
from app.tiering.reference import ReferenceModel
from app.tiering.terms import Evidence, Kind, Mode, Standing, Verdict, Witness


class Stop(StrEnum):
    """Why every move of a run waits for a person."""

    COLD_START = "cold_start"
    BOOK_SHIFTED = "book_shifted"
    LARGE_CHANNEL_SHIFTED = "large_channel_shifted"
    """The book has shifted, but not without its large channels: one of them is the reason, and not the weather."""
    TOO_MANY_CHANNELS = "too_many_channels"
    TOO_MUCH_VOLUME = "too_much_volume"


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What a review needs of a unit besides its loans.

    volume_share: of the book's funded loans of the last three months. expected_rate: of its present mix, before kappa,
    None where it funded nothing lately. loss_appetite: B, None for the policy's. break_even_theta: see `economics`.
    alarm: whether the fast alarm rang since the last review. frauds, funded: confirmed, of so many loans.
    """

    volume_share: float
    expected_rate: float | None = None
    loss_appetite: float | None = None
    break_even_rate: float | None = None
    alarm: bool = False
    feed_late_days: int = 0
    frauds: int = 0
    funded: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """Everything that a review knows of a unit: what its verdict rests on, whichever statistic the policy names."""

    discounted: Belief
    recent: Belief
    change_point: Belief
    since_worst: Belief
    kappa: float
    evidence: Evidence
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Review:
    """A whole run. `nu_found` is the prior's nu before clipping, None where channels were too few to tell."""

    as_of: int
    reference_version: int
    nu: float
    nu_found: float | None
    discounted: Calibration
    recent: Calibration
    stops: tuple[Stop, ...]
    assessments: tuple[Assessment, ...]

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """By unit."""
        return tuple(assessment.verdict for assessment in self.assessments)


def review(
    *,
    counts: Counts,
    reference: ReferenceModel,
    standings: Sequence[Standing],
    circumstances: Sequence[Circumstances],
    as_of: int,
    policy: TieringPolicy,
) -> Review:
    """Review every unit as of the end of a calendar month.

    standings, circumstances: one a unit, in the order of the counts' first axis.

    Raises:
        ValueError: where these are not as many as the units that were counted.
    """
    units = counts.observed.shape[0]
    if not len(standings) == len(circumstances) == units:
        raise ValueError("a review takes one standing and one set of circumstances for each unit")
    whole = forget(counts, as_of=as_of, half_life_months=policy.forgetting.half_life_months)
    young = recent(counts, as_of=as_of, cohorts=policy.forgetting.recent_cohorts)
    whole_level, young_level = calibrate(whole, policy.calibration), calibrate(young, policy.calibration)
    observed, expected = _calibrated(whole, whole_level.kappa)
    nu, nu_found = fit_prior(observed, expected, policy.prior)
    young_observed, young_expected = _calibrated(young, young_level.kappa)
    worst_since = np.array([standing.tier_month for standing in standings], np.int64)
    worst_observed, worst_expected = _calibrated(since(counts, worst_since), whole_level.kappa)
    changing = _change_point_beliefs(counts, (whole_level, young_level), nu, as_of, policy)
    kappas = np.divide(expected, whole.expected.sum(axis=1), out=np.ones(units), where=expected > 0.0)
    assessments = []
    for unit in range(units):
        discounted = posterior(nu, float(observed[unit]), float(expected[unit]))
        lately = posterior(nu, float(young_observed[unit]), float(young_expected[unit]))
        kappa = float(kappas[unit])
        present, witnesses = _beliefs(discounted, lately, changing[unit], policy)
        evidence = _evidence(
            circumstances[unit],
            kappa,
            policy,
            present=present,
            witnesses=witnesses,
            since_worst=posterior(nu, float(worst_observed[unit]), float(worst_expected[unit])),
        )
        assessments.append(
            Assessment(
                discounted=discounted,
                recent=lately,
                change_point=changing[unit],
                since_worst=evidence.since_worst,
                kappa=kappa,
                evidence=evidence,
                verdict=judge(standings[unit], evidence, as_of, policy),
            )
        )
    stops = _stops(reference, (whole_level, young_level), assessments, policy)
    if stops:
        held = stop([assessment.verdict for assessment in assessments])
        assessments = [
            replace(assessment, verdict=verdict) for assessment, verdict in zip(assessments, held, strict=True)
        ]
    return Review(
        as_of=as_of,
        reference_version=reference.version,
        nu=nu,
        nu_found=nu_found,
        discounted=whole_level,
        recent=young_level,
        stops=stops,
        assessments=tuple(assessments),
    )


def _calibrated(window: Window, kappa: Floats) -> tuple[Floats, Floats]:
    """O and kappa E by unit, over its products."""
    return window.observed.sum(axis=1), (window.expected * kappa).sum(axis=1)


def _change_point_beliefs(
    counts: Counts, levels: tuple[Calibration, Calibration], nu: float, as_of: int, policy: TieringPolicy
) -> list[Belief]:
    """Over each unit's cohorts; the recent ones at the recent window's level."""
    whole, young = levels
    months = counts.cohort_months()
    terms = policy.change_point
    kept = (months > as_of - terms.maximum_cohorts) & (months <= as_of)
    is_young = (months >= as_of - policy.forgetting.recent_cohorts)[kept]
    by_cohort = counts.expected[:, :, kept].sum(axis=3)
    kappa = np.where(is_young[None, None, :], young.kappa[:, :, None], whole.kappa[:, :, None])
    return present_beliefs(
        nu,
        counts.observed[:, :, kept].sum(axis=(1, 3)),
        (by_cohort * kappa).sum(axis=1),
        terms.monthly_change_probability,
    )


def _beliefs(
    discounted: Belief, lately: Belief, changing: Belief, policy: TieringPolicy
) -> tuple[tuple[Belief, ...], tuple[Witness, ...]]:
    """What a promotion must hold in, and what a demotion may rest on, by the policy's statistic."""
    if policy.statistic is Statistic.WINDOWS:
        terms = policy.demotion
        both = (discounted, lately)
        return both, tuple(Witness(belief, terms.probability, terms.probability_on_watch) for belief in both)
    own = policy.change_point
    return (changing,), (
        Witness(changing, own.demotion_probability, own.demotion_probability_on_watch),
        Witness(lately, own.recent_probability, own.recent_probability_on_watch),
    )


def _evidence(
    given: Circumstances,
    kappa: float,
    policy: TieringPolicy,
    *,
    present: tuple[Belief, ...],
    witnesses: tuple[Witness, ...],
    since_worst: Belief,
) -> Evidence:
    rate = None if given.expected_rate is None else given.expected_rate * kappa
    appetite = policy.loss_appetite if given.loss_appetite is None else given.loss_appetite
    return Evidence(
        present=present,
        witnesses=witnesses,
        since_worst=since_worst,
        appetite_ratio=appetite / rate if rate else None,
        break_even_theta=max(given.break_even_rate, 0.0) / rate if rate and given.break_even_rate is not None else None,
        alarm=given.alarm,
        feed_late_days=given.feed_late_days,
        frauds=given.frauds,
        funded=given.funded,
        volume_share=given.volume_share,
    )


def _stops(
    reference: ReferenceModel,
    levels: tuple[Calibration, ...],
    assessments: Sequence[Assessment],
    policy: TieringPolicy,
) -> tuple[Stop, ...]:
    """What makes all moves wait. Admissions from probation and proposals are not moves of the book."""
    safeguards, fit = policy.safeguards, policy.reference
    moved = [
        assessment
        for assessment in assessments
        if assessment.verdict.kind in {Kind.DEMOTE, Kind.SUSPEND, Kind.EXIT, Kind.PROMOTE}
        and (assessment.verdict.mode is not Mode.PROPOSAL or assessment.verdict.kind is Kind.PROMOTE)
    ]
    many = len(moved) > safeguards.moved_channels_share * len(assessments)
    others_shifted = any(
        level.outside(policy.calibration) and level.others_outside(policy.calibration) for level in levels
    )
    volume = sum(assessment.evidence.volume_share for assessment in moved)
    found = {
        Stop.COLD_START: reference.events < fit.minimum_events or reference.months < fit.minimum_months,
        Stop.BOOK_SHIFTED: others_shifted,
        Stop.LARGE_CHANNEL_SHIFTED: not others_shifted and any(level.outside(policy.calibration) for level in levels),
        Stop.TOO_MANY_CHANNELS: many and len(moved) >= safeguards.moved_channels_minimum,
        Stop.TOO_MUCH_VOLUME: volume > safeguards.moved_volume_share,
    }
    return tuple(reason for reason, holds in found.items() if holds)
