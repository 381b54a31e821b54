"""A world's months, one after another: apply, decide, fund, wait, review, and begin anew with what was learnt."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from app.domain.compiled import CompiledPolicy
from app.simulation.applicants import APR_BPS, TERM_MONTHS, Applicants, draw
from app.simulation.gate import Month, decide
from app.simulation.naive import NaiveRule
from app.simulation.outcomes import draw_events, season_at, segment_of, yearly_rate
from app.simulation.world import SEGMENTS, World
from app.tiering.alarm import limit_for, scan
from app.tiering.arrays import Floats, Integers
from app.tiering.commission import CommissionTerms
from app.tiering.counts import Counts, count
from app.tiering.economics import Economics
from app.tiering.loans import LoanBook, loan_book
from app.tiering.moves import next_standing
from app.tiering.policy import TieringPolicy
from app.tiering.reference import ReferenceModel, expected_rates, fit_reference
from app.tiering.review import Circumstances, Review, Stop, review
from app.tiering.terms import Kind, Mode, Standing, Verdict
from app.tiering.terms import Life as State

BEFORE: Final = 24
"""Months before the first one: calendar month 0 of a world is this cohort."""
_EXITED: Final = "exited"
_DAYS: Final = 30
_COLUMNS: Final = ("unit", "segment", "funded_month", "event_month", "exit_month", "amount")


@dataclass(slots=True, kw_only=True)
class Trace:
    """What happened to each channel, month by month; a row a month, a column a channel.

    tier: position in the policy's tiers; -1 in probation, and one past the last once suspended or exited.
    found: whether the review of that month found reason to move it down, whether or not that was applied.
    """

    tier: Integers
    found: Integers
    watched: Integers
    naive: Integers
    funded: Integers
    theta_mean: Floats
    cause: list[list[str]] = field(default_factory=list)
    stops: list[tuple[Stop, ...]] = field(default_factory=list)


class Life:
    """One history of a world."""

    def __init__(
        self, world: World, gate: CompiledPolicy, policy: TieringPolicy, applications: Floats, seed: int
    ) -> None:
        """applications: how many a month each channel sends."""
        self.world, self.gate, self.policy = world, gate, policy
        self.random = np.random.default_rng(seed)
        self.applications = applications
        channels = len(world.channels)
        self.reference = _history(world, policy, np.random.default_rng(seed + 10**9))
        self.standings = [_at_start(plan.newcomer, plan.enters, policy) for plan in world.channels]
        self.exited = np.zeros(channels, np.bool_)
        self.held_reviews = np.zeros(channels, np.int64)
        self.frozen: dict[int, int] = {}
        self.loans = {name: np.zeros(0, np.int64) for name in _COLUMNS}
        self.day = np.zeros(0, np.int64)
        self.score = np.zeros(channels)
        self.kappa = np.ones(channels)
        self.volumes = np.tile([plan.monthly_loans * (not plan.newcomer) for plan in world.channels], (3, 1))
        self.naive = NaiveRule(channels)
        self._frozen_counts: Counts | None = None
        shape = (world.months, channels)
        self.trace = Trace(
            tier=np.zeros(shape, np.int64),
            found=np.zeros(shape, np.int64),
            watched=np.zeros(shape, np.int64),
            naive=np.zeros(shape, np.int64),
            funded=np.zeros(shape, np.int64),
            theta_mean=np.ones(shape),
        )
        self.reviews: list[Review] = []
        self.before: list[list[Standing]] = []
        """Where every channel stood before each review."""

    def run(self) -> Trace:
        """All months."""
        for month in range(self.world.months):
            self._business(month)
            self._review(month)
        return self.trace

    # Business ---------------------------------------------------------------------------------------------------------

    def _business(self, month: int) -> None:
        plans = self.world.channels
        open_ = np.array([plan.enters <= month for plan in plans]) & ~self.exited
        mean = self.applications * open_ * season_at(self.world, month + 3)
        applied = self.random.poisson(mean)
        channel = np.repeat(np.arange(len(plans)), applied)
        scores = np.array([plan.mean_score + plan.drift_a_month * month for plan in plans])
        applicants = draw(self.random, channel, scores[channel])
        states = tuple(
            _EXITED if gone else each.life.value for each, gone in zip(self.standings, self.exited, strict=True)
        )
        tiers = tuple(standing.tier for standing in self.standings)
        decided = decide(self.random, self.gate, applicants, states=states, tiers=tiers, limits=self._limits(month))
        self._fund(month, decided, applicants.where(decided.funded))

    def _limits(self, month: int) -> Integers:
        """The month's budgets: growth of 30 % over the 3-month mean, 50 in probation, none where growth is frozen."""
        mean = self.volumes[-3:].mean(axis=0)
        limits: Integers = np.ceil(1.3 * np.maximum(mean, 20)).astype(np.int64)
        for channel, standing in enumerate(self.standings):
            if standing.life is State.PROBATION:
                limits[channel] = 50
            if channel in self.frozen:
                limits[channel] = min(self.frozen[channel], int(limits[channel]))
        return limits

    def _fund(self, month: int, decided: Month, people: Applicants) -> None:
        theta = np.array([plan.theta_at(month) for plan in self.world.channels])[people.channel]
        funded = np.full(len(people), month, np.int64)
        score = np.where(people.has_file, people.score, 0)
        event, exit_month = draw_events(
            self.random,
            self.world,
            rate=yearly_rate(people.score, people.has_file),
            theta=theta,
            funded_month=funded,
            score=score,
        )
        made = {
            "unit": people.channel,
            "segment": segment_of(people.score, people.has_file),
            "funded_month": funded + BEFORE,
            "event_month": event,
            "exit_month": exit_month,
            "amount": decided.amount,
        }
        self.loans = {name: np.concatenate([self.loans[name], made[name]]) for name in _COLUMNS}
        self.day = np.concatenate([self.day, self.random.integers(0, 28, len(people))])
        counts = np.bincount(people.channel, minlength=len(self.standings))
        self.trace.funded[month] = counts
        self.volumes = np.vstack([self.volumes, counts])
        self.naive.fund(self.random, people.channel, month, event)

    # Review -----------------------------------------------------------------------------------------------------------

    def _review(self, month: int) -> None:
        as_of = month + BEFORE
        through = as_of - self.world.feed_delay_months
        book = self.book()
        alarms = self._alarms(book, through)
        done = review(
            counts=self._count(book, through),
            reference=self.reference,
            standings=self.standings,
            circumstances=self._circumstances(book, as_of, alarms),
            as_of=as_of,
            policy=self.policy,
        )
        self.kappa = np.array([assessment.kappa for assessment in done.assessments])
        self.before.append(list(self.standings))
        for channel, verdict in enumerate(done.verdicts):
            self._act(channel, verdict, as_of, Stop.BOOK_SHIFTED in done.stops or Stop.COLD_START in done.stops)
        self.reviews.append(done)
        self._record(month, done)

    def book(self) -> LoanBook:
        """Every loan that was funded until now, with all that will become of it."""
        loans = self.loans
        return loan_book(
            unit=loans["unit"],
            segment=loans["segment"],
            funded_month=loans["funded_month"],
            event_month=loans["event_month"],
            exit_month=loans["exit_month"],
            amount=loans["amount"],
        )

    def _count(self, book: LoanBook, through: int) -> Counts:
        """Counts of all cohorts, of which only those that can still change are counted again."""
        horizon = self.policy.event.horizon_months
        cohorts = self.world.months
        young_from = max(through - horizon - 1, BEFORE)
        units = len(self.standings)

        def of(loans: LoanBook) -> Counts:
            return count(
                loans,
                self.reference,
                units=units,
                products=1,
                complete_through=np.full(units, through),
                first_cohort=BEFORE,
                cohorts=cohorts,
            )

        young = of(book.where(book.funded_month > young_from))
        settled = (
            book.where(book.funded_month == young_from)
            if self._frozen_counts
            else book.where(book.funded_month <= young_from)
        )
        if through - young_from <= horizon:  # nothing is settled yet
            return young + of(book.where(book.funded_month <= young_from))
        self._frozen_counts = of(settled) if self._frozen_counts is None else self._frozen_counts + of(settled)
        return young + self._frozen_counts

    def _alarms(self, book: LoanBook, through: int) -> list[bool]:
        """The CUSUM of every channel over the first payments that this month has made known."""
        late_in = self.policy.event.fpd_month_on_book
        known = np.flatnonzero(book.funded_month == through - late_in)
        a_year = np.flatnonzero((book.funded_month > through - late_in - 12) & (book.funded_month <= through - late_in))
        p = self.reference.hazards[:, late_in - 1]
        units = len(self.standings)
        yearly = np.bincount(book.unit[a_year], weights=p[book.segment[a_year]], minlength=units)
        seen_months = max(min(12, through - late_in - BEFORE + 1), 1)
        order = known[np.argsort(book.unit[known], kind="stable")]
        edges = np.searchsorted(book.unit[order], np.arange(units + 1))
        rang = []
        for unit in range(units):
            rows = order[edges[unit] : edges[unit + 1]]
            if not rows.size:
                rang.append(False)
                continue
            found = scan(
                day=self.day[rows],
                expected=np.minimum(p[book.segment[rows]] * self.kappa[unit], 0.99),
                defaulted=book.event_month[rows] == late_in,
                limit=limit_for(float(yearly[unit]) * 12 / seen_months, self.policy.alarm),
                odds_ratio=self.policy.alarm.odds_ratio,
                score=float(self.score[unit]),
            )
            self.score[unit] = found.score
            rang.append(bool(found.alarm_days))
        return rang

    def _circumstances(self, book: LoanBook, as_of: int, alarms: list[bool]) -> list[Circumstances]:
        units = len(self.standings)
        since = np.full(units, as_of - self.policy.forgetting.recent_cohorts)
        rates = expected_rates(self.reference, book, units, since)
        recent = np.flatnonzero(book.funded_month >= as_of - self.policy.forgetting.recent_cohorts)
        number = np.bincount(book.unit[recent], minlength=units)
        total = np.bincount(book.unit[recent], weights=book.amount[recent], minlength=units)
        share = self.volumes[-3:].sum(axis=0) / max(int(self.volumes[-3:].sum()), 1)
        economics, terms = Economics(servicing_cost=30_000.0), CommissionTerms()
        made = []
        for unit, plan in enumerate(self.world.channels):
            appetite = even = None
            if number[unit]:
                loan = {
                    "amount": float(total[unit] / number[unit]),
                    "annual_rate": APR_BPS / 1e4,
                    "years": TERM_MONTHS / 12,
                }
                commission = loan["amount"] * float(terms.base_rate * terms.quality[self.standings[unit].tier])
                appetite = economics.break_even_rate(**loan)
                even = economics.break_even_rate(**loan, cac=plan.cost + commission)
            made.append(
                Circumstances(
                    volume_share=float(share[unit]),
                    expected_rate=float(rates[unit]) if np.isfinite(rates[unit]) else None,
                    loss_appetite=max(appetite, 1e-4) if appetite is not None else None,
                    break_even_rate=even,
                    alarm=alarms[unit],
                    feed_late_days=_DAYS * self.world.feed_delay_months,
                    funded=int(number[unit]),
                )
            )
        return made

    def _act(self, channel: int, verdict: Verdict, as_of: int, book_shifted: bool) -> None:
        """What the service and its persons make of a verdict: proposals up are approved, held moves confirmed later."""
        if self.exited[channel]:
            return
        before = self.standings[channel]
        applied = verdict.mode in {Mode.AT_ONCE, Mode.AFTER_DELAY, Mode.PROPOSAL}
        if verdict.mode is Mode.HELD:
            self.held_reviews[channel] += 1
            applied = not book_shifted and self.held_reviews[channel] > self.world.person_confirms_after
        if applied or not verdict.is_move:
            self.held_reviews[channel] = 0
        after = next_standing(before, verdict, as_of, applied=applied)
        self.standings[channel] = after
        if verdict.kind is Kind.EXIT and applied:
            self.exited[channel] = True
        if verdict.freeze or (after.on_watch(as_of) and channel not in self.frozen):
            self.frozen[channel] = int(np.ceil(self.volumes[-3:, channel].mean()))
        if channel in self.frozen and not after.on_watch(as_of) and not verdict.freeze:
            del self.frozen[channel]

    def _record(self, month: int, done: Review) -> None:
        tiers = self.policy.tiers
        for channel, standing in enumerate(self.standings):
            out = self.exited[channel] or standing.life is State.SUSPENDED
            on_probation = standing.life is State.PROBATION
            self.trace.tier[month, channel] = len(tiers) if out else -1 if on_probation else tiers.index(standing.tier)
        self.trace.found[month] = [verdict.is_down for verdict in done.verdicts] & ~self.exited
        self.trace.watched[month] = [standing.on_watch(done.as_of) for standing in self.standings]
        self.trace.theta_mean[month] = [assessment.evidence.present[0].mean for assessment in done.assessments]
        self.trace.cause.append(
            [
                verdict.cause.value if verdict.is_move and not gone else ""
                for verdict, gone in zip(done.verdicts, self.exited, strict=True)
            ]
        )
        self.trace.stops.append(done.stops)
        self.trace.naive[month] = self.naive.found(month - self.world.feed_delay_months)


def _at_start(newcomer: bool, enters: int, policy: TieringPolicy) -> Standing:
    """Channels that are known have been here for a year; newcomers begin in probation."""
    since = BEFORE + enters if newcomer else BEFORE - 12
    standing = Standing(
        life=State.ACTIVE, tier=policy.admitted_tier, entered_month=since, tier_month=since, state_month=since
    )
    return replace(standing, life=State.PROBATION) if newcomer else standing


def _history(world: World, policy: TieringPolicy, random: np.random.Generator) -> ReferenceModel:
    """The reference, fitted on the book of the two years before: channels of quality 1, a mix of everybody."""
    calm = replace(world, shock=1.0, hidden_risk=1.0)
    loans = world.history_loans
    month = np.sort(random.integers(-BEFORE, 0, loans))
    people = draw(random, np.zeros(loans, np.int64), np.full(loans, 690.0))
    event, exit_month = draw_events(
        random,
        calm,
        rate=yearly_rate(people.score, people.has_file),
        theta=np.ones(loans),
        funded_month=month,
        score=people.score,
    )
    book = loan_book(
        unit=people.channel,
        segment=segment_of(people.score, people.has_file),
        funded_month=month + BEFORE,
        event_month=event,
        exit_month=exit_month,
    )
    return fit_reference(
        book,
        version=1,
        segments=SEGMENTS,
        complete_through=np.array([BEFORE - 1]),
        horizon_months=policy.event.horizon_months,
        pseudo_events=policy.reference.pseudo_events,
    )
