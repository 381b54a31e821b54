"""The terms of a review: where a channel stands, what is believed of it, and what is said of it.

Months are calendar months (`loans.month_number`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from app.tiering.belief import Belief


class Life(StrEnum):
    """The states of a channel that are reviewed; the words are those of the channel registry."""

    PROBATION = "probation"
    ACTIVE = "active"
    SUSPENDED = "suspended"


class Kind(StrEnum):
    """What a review says of a channel."""

    STAY = "stay"
    DEMOTE = "demote"
    PROMOTE = "promote"
    ADMIT = "admit"
    EXTEND = "extend"
    SUSPEND = "suspend"
    EXIT = "exit"


class Mode(StrEnum):
    """How it comes into force."""

    NONE = "none"
    AT_ONCE = "at_once"
    AFTER_DELAY = "after_delay"
    """Growth is frozen at once; it applies after some business days unless a person stops it."""
    PROPOSAL = "proposal"
    """A second person approves it, or nothing happens."""
    HELD = "held"
    """The whole book has moved, or the reference is not the book's own: a person looks at every move."""


class Cause(StrEnum):
    """Why: the condition that was met."""

    NONE = "none"
    RELATIVE_RISK = "relative_risk"
    SEVERE_RISK = "severe_risk"
    RISK_SINCE_WORST_TIER = "risk_since_worst_tier"
    UNPROFITABLE = "unprofitable"
    FRAUD = "fraud"
    GOOD_RECORD = "good_record"
    PROBATION_PASSED = "probation_passed"
    PROBATION_OPEN = "probation_open"
    PROBATION_EXPIRED = "probation_expired"
    SUSPENDED_LONG = "suspended_long"


class Blocker(StrEnum):
    """Why a channel with a good record is not moved up yet."""

    TOO_FEW_EXPECTED = "too_few_expected"
    FIRST_REVIEW = "first_review"
    DEMOTED_RECENTLY = "demoted_recently"
    ENTERED_RECENTLY = "entered_recently"
    ON_WATCH = "on_watch"
    LATE_FEED = "late_feed"
    UNPROFITABLE = "unprofitable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a channel stands before a review, and what earlier reviews remember of it.

    tier: None in probation where nothing is assigned. entered_month: of its first business; tier_month: since when it
    has this tier; state_month: since when it has this state. demoted_month: of its last move down. watch_until: the
    first month in which it is no longer on watch. good_reviews, unprofitable_reviews: in a row, until now.
    """

    life: Life
    tier: str
    entered_month: int
    tier_month: int
    state_month: int
    demoted_month: int | None = None
    watch_until: int | None = None
    good_reviews: int = 0
    unprofitable_reviews: int = 0

    def on_watch(self, as_of: int) -> bool:
        """Whether a fast alarm is not long ago."""
        return self.watch_until is not None and as_of < self.watch_until


class Witness(NamedTuple):
    """A belief that can demote a channel by itself, and how certain it must be; on watch less so."""

    belief: Belief
    probability: float
    probability_on_watch: float

    def needed(self, on_watch: bool) -> float:
        """How certain it must be now."""
        return self.probability_on_watch if on_watch else self.probability


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is believed of a channel at a review.

    present: the beliefs that all of a promotion's conditions must hold in; the first one is the channel's own figure.
    witnesses: those of which one is enough for a demotion.
    since_worst: on loans made since it entered the worst tier. appetite_ratio: B / p of its mix, None where unknown.
    break_even_theta: the theta at which a funded customer earns what it cost, None where the economics are unknown.
    """

    present: tuple[Belief, ...]
    witnesses: tuple[Witness, ...]
    since_worst: Belief
    appetite_ratio: float | None = None
    break_even_theta: float | None = None
    alarm: bool = False
    feed_late_days: int = 0
    frauds: int = 0
    funded: int = 0
    volume_share: float = 0.0

    def threshold(self, theta: float) -> float:
        """min(t, B / p): the absolute arm."""
        return theta if self.appetite_ratio is None else min(theta, self.appetite_ratio)

    def worse_than(self, theta: float, minimum_events: float) -> float:
        """The largest P(theta > t) among the witnesses with enough events; 0 where none has."""
        return max((found for found, _ in self._testimony(theta, minimum_events)), default=0.0)

    def worse_than_needed(self, theta: float, minimum_events: float, *, on_watch: bool) -> tuple[float, float] | None:
        """P(theta > t) and what it takes, of the witness that passes it by most; None where none has enough events."""
        told = [(found, witness.needed(on_watch)) for found, witness in self._testimony(theta, minimum_events)]
        return max(told, key=lambda each: each[0] - each[1], default=None)

    def _testimony(self, theta: float, minimum_events: float) -> list[tuple[float, Witness]]:
        threshold = self.threshold(theta)
        return [
            (witness.belief.above(threshold), witness)
            for witness in self.witnesses
            if witness.belief.observed >= minimum_events
        ]

    def better_than(self, theta: float) -> float:
        """The smallest P(theta < t) among the beliefs."""
        return min(belief.below(self.threshold(theta)) for belief in self.present)

    def unprofitable(self) -> float:
        """P(a funded customer earns less than it cost), by the first belief; 0 where the economics are unknown."""
        return 0.0 if self.break_even_theta is None else self.present[0].above(self.break_even_theta)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a review says of one channel. `tier` and `life` are those after the move.

    probability: of the condition that was met or came nearest; needed: what it takes. freeze: its growth stops now.
    watch_until: as it is after this review. blockers: why a good record does not move it up yet.
    """

    kind: Kind
    mode: Mode
    cause: Cause
    life: Life
    tier: str
    probability: float | None = None
    needed: float | None = None
    threshold: float | None = None
    freeze: bool = False
    watch_until: int | None = None
    good_reviews: int = 0
    unprofitable_reviews: int = 0
    blockers: tuple[Blocker, ...] = ()

    @property
    def is_down(self) -> bool:
        """Whether it makes things stricter for the channel."""
        return self.kind in {Kind.DEMOTE, Kind.SUSPEND} or (self.kind is Kind.EXIT and self.mode is not Mode.PROPOSAL)

    @property
    def is_move(self) -> bool:
        """Whether anything would change."""
        return self.kind not in {Kind.STAY, Kind.EXTEND}
