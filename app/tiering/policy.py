"""The tiering policy: every threshold of re-tiering in one frozen value.

Defaults are the domain's. Each number declares its range, which the reader of the JSON form (`policy_document`) and the
constructor both hold it to.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from enum import StrEnum
from typing import Any, Final

RANGE: Final = "range"


def _within(default: Any, minimum: float, maximum: float) -> Any:
    """A number in [minimum, maximum]."""
    return field(default=default, metadata={RANGE: (minimum, maximum)})


class Statistic(StrEnum):
    """Which belief a move rests on; both are computed and shown by every review."""

    WINDOWS = "windows"
    """The discounted window and the recent one: a demotion takes the larger probability, a promotion the smaller."""
    CHANGE_POINT = "change_point"
    """The belief about the cohorts since the channel last changed, averaged over when that may have been; beside it,
    for a demotion, the recent window at a higher probability, which is quicker about a change that is plain."""


class PolicyValueError(ValueError):
    """A tiering policy that contradicts itself; `where` names the value by its path."""

    def __init__(self, where: str, detail: str) -> None:
        super().__init__(f"{where}: {detail}")
        self.where = where
        self.detail = detail


class _Ranged:
    """Holds every declared number to its range."""

    __slots__ = ()

    def __post_init__(self) -> None:
        for each in fields(self):  # type: ignore[arg-type]  # only dataclasses derive from it
            if RANGE in each.metadata:
                minimum, maximum = each.metadata[RANGE]
                value = getattr(self, each.name)
                if not minimum <= value <= maximum:
                    raise PolicyValueError(each.name, f"must be from {minimum} to {maximum}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPolicy(_Ranged):
    """What counts: the first time 30 days past due within `horizon_months` on book."""

    horizon_months: int = _within(12, 1, 60)
    fpd_month_on_book: int = _within(2, 1, 12)
    """In which month on book a first instalment can be 30 days late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferencePolicy(_Ranged):
    """When the own book carries a fit, and how much a thin cell is drawn to its segment and month."""

    minimum_events: int = _within(300, 1, 10_000_000)
    minimum_months: int = _within(12, 1, 120)
    pseudo_events: float = _within(5.0, 0.0, 1_000.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgettingPolicy(_Ranged):
    """The two windows of the evidence."""

    half_life_months: float = _within(9.0, 0.5, 120.0)
    recent_cohorts: int = _within(6, 1, 60)


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationPolicy(_Ranged):
    """The range in which kappa is believed, and from which share of E on a unit is left out of its own."""

    kappa_minimum: float = _within(0.8, 0.01, 1.0)
    kappa_maximum: float = _within(1.25, 1.0, 100.0)
    leave_one_out_share: float = _within(0.2, 0.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorPolicy(_Ranged):
    """The range of nu, and what it is with fewer channels than can tell."""

    nu_minimum: float = _within(4.0, 0.01, 1_000.0)
    nu_maximum: float = _within(12.0, 0.01, 1_000.0)
    nu_default: float = _within(8.0, 0.01, 1_000.0)
    minimum_channels: int = _within(8, 2, 10_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangePointPolicy(_Ranged):
    """How often a channel becomes another one, and how certain a demotion must be by this statistic.

    Its probabilities replace those of the windows. They were found by simulation: at them, an average channel is
    demoted less often than by the windows' 0.90, because a bad half year is not believed at once.
    """

    monthly_change_probability: float = _within(1 / 36, 0.0, 0.5)
    maximum_cohorts: int = _within(36, 2, 120)
    demotion_probability: float = _within(0.75, 0.5, 1.0)
    demotion_probability_on_watch: float = _within(0.70, 0.5, 1.0)
    recent_probability: float = _within(0.88, 0.5, 1.0)
    recent_probability_on_watch: float = _within(0.80, 0.5, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmPolicy(_Ranged):
    """The CUSUM on first payments. `limits`: rows of (expected defaults a year, limit), interpolated in log."""

    odds_ratio: float = _within(2.0, 1.01, 20.0)
    limits: tuple[tuple[float, float], ...] = (
        (2.5, 2.26),
        (5.0, 2.81),
        (10.0, 3.58),
        (20.0, 4.29),
        (40.0, 5.09),
        (80.0, 5.85),
        (160.0, 6.5),
        (300.0, 7.2),
        (1_000.0, 8.4),
    )
    watch_months: int = _within(6, 1, 60)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundaryPolicy(_Ranged):
    """Between a tier and the next worse one: P(theta > demote_above) moves down, P(theta < promote_below) up."""

    demote_above: float = _within(1.0, 0.01, 100.0)
    promote_below: float = _within(1.0, 0.01, 100.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemotionPolicy(_Ranged):
    """How certain a move down must be. The severe one goes to the worst tier at once."""

    probability: float = _within(0.90, 0.5, 1.0)
    probability_on_watch: float = _within(0.60, 0.5, 1.0)
    minimum_events: float = _within(4.0, 0.0, 10_000.0)
    severe_above: float = _within(2.0, 0.01, 100.0)
    severe_probability: float = _within(0.95, 0.5, 1.0)
    unprofitable_probability: float = _within(0.90, 0.5, 1.0)
    unprofitable_reviews: int = _within(2, 1, 24)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionPolicy(_Ranged):
    """What a move up takes, besides a person's approval."""

    probability: float = _within(0.95, 0.5, 1.0)
    reviews_in_a_row: int = _within(2, 1, 24)
    minimum_expected: float = _within(8.0, 0.0, 10_000.0)
    months_since_demotion: int = _within(6, 0, 120)
    months_since_entry: int = _within(6, 0, 120)


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspensionPolicy(_Ranged):
    """When the worst tier is not enough, and when a suspension is proposed to be the end.

    By windows, P(theta > above) counts on the loans made since the channel entered the worst tier. By change points it
    counts on its present stretch, which begins anew by itself where those loans are better; they need only agree:
    P(theta > since_above) of at least since_probability on them, and `minimum_events` among them.
    """

    above: float = _within(1.6, 0.01, 100.0)
    probability: float = _within(0.90, 0.5, 1.0)
    minimum_events: float = _within(6.0, 0.0, 10_000.0)
    since_above: float = _within(1.3, 0.01, 100.0)
    since_probability: float = _within(0.5, 0.0, 1.0)
    fraud_share: float = _within(0.01, 0.0, 1.0)
    minimum_frauds: int = _within(3, 1, 1_000)
    """Ours: one confirmed fraud among 50 loans is 2 % and says little."""
    months_to_exit: int = _within(6, 1, 120)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbationPolicy(_Ranged):
    """How a new channel becomes an active one."""

    minimum_expected: float = _within(3.0, 0.0, 10_000.0)
    theta_above: float = _within(1.3, 0.01, 100.0)
    probability_below: float = _within(0.5, 0.0, 1.0)
    months_to_exit: int = _within(9, 1, 120)


@dataclass(frozen=True, slots=True, kw_only=True)
class SafeguardPolicy(_Ranged):
    """What makes moves wait for a person."""

    moved_channels_share: float = _within(0.10, 0.0, 1.0)
    moved_channels_minimum: int = _within(2, 1, 1_000)
    """Ours: one channel alone is no shock of the book, however few there are."""
    moved_volume_share: float = _within(0.15, 0.0, 1.0)
    large_volume_share: float = _within(0.05, 0.0, 1.0)
    large_delay_business_days: int = _within(2, 0, 30)
    feed_late_days: int = _within(10, 0, 365)


@dataclass(frozen=True, slots=True, kw_only=True)
class TieringPolicy:
    """How channels are tiered. `tiers` from best to worst; `boundaries[i]` lies between tiers i and i + 1.

    loss_appetite: the rate of events that may be borne where the economics do not say (step 8).

    Raises:
        PolicyValueError: where a value is out of its range or two contradict each other.
    """

    name: str = "default"
    tiers: tuple[str, ...] = ("prime", "general", "risk")
    boundaries: tuple[BoundaryPolicy, ...] = (
        BoundaryPolicy(demote_above=1.10, promote_below=0.90),
        BoundaryPolicy(demote_above=1.30, promote_below=1.10),
    )
    admitted_tier: str = "general"
    loss_appetite: float = _within(0.08, 0.0001, 1.0)
    statistic: Statistic = Statistic.CHANGE_POINT
    event: EventPolicy = EventPolicy()
    reference: ReferencePolicy = ReferencePolicy()
    forgetting: ForgettingPolicy = ForgettingPolicy()
    calibration: CalibrationPolicy = CalibrationPolicy()
    prior: PriorPolicy = PriorPolicy()
    change_point: ChangePointPolicy = ChangePointPolicy()
    alarm: AlarmPolicy = AlarmPolicy()
    demotion: DemotionPolicy = DemotionPolicy()
    promotion: PromotionPolicy = PromotionPolicy()
    suspension: SuspensionPolicy = SuspensionPolicy()
    probation: ProbationPolicy = ProbationPolicy()
    safeguards: SafeguardPolicy = SafeguardPolicy()

    def __post_init__(self) -> None:
        minimum, maximum = 0.0001, 1.0
        if not minimum <= self.loss_appetite <= maximum:
            raise PolicyValueError("loss_appetite", f"must be from {minimum} to {maximum}")
        if len(self.tiers) < 2 or len(set(self.tiers)) != len(self.tiers):
            raise PolicyValueError("tiers", "must be two or more, each once, from best to worst")
        if len(self.boundaries) != len(self.tiers) - 1:
            raise PolicyValueError("boundaries", "must be one fewer than tiers: one between each and the next")
        if self.admitted_tier not in self.tiers:
            raise PolicyValueError("admitted_tier", "must be one of the tiers")
        for position, boundary in enumerate(self.boundaries):
            if boundary.promote_below > boundary.demote_above:
                raise PolicyValueError(f"boundaries[{position}]", "promote_below must not be above demote_above")
        if self.prior.nu_minimum > self.prior.nu_maximum:
            raise PolicyValueError("prior.nu_minimum", "must not be above nu_maximum")
        if self.demotion.probability_on_watch > self.demotion.probability:
            raise PolicyValueError("demotion.probability_on_watch", "must not be above probability")
        terms = self.change_point
        if terms.demotion_probability_on_watch > terms.demotion_probability:
            raise PolicyValueError(
                "change_point.demotion_probability_on_watch", "must not be above demotion_probability"
            )
        if terms.recent_probability_on_watch > terms.recent_probability:
            raise PolicyValueError("change_point.recent_probability_on_watch", "must not be above recent_probability")
        self._check_limits()

    def _check_limits(self) -> None:
        rows = self.alarm.limits
        if len(rows) < 2:
            raise PolicyValueError("alarm.limits", "must have two rows or more")
        for position, (expected, limit) in enumerate(rows):
            if expected <= 0.0 or limit <= 0.0:
                raise PolicyValueError(f"alarm.limits[{position}]", "must be above 0")
            if position and (expected <= rows[position - 1][0] or limit < rows[position - 1][1]):
                raise PolicyValueError(f"alarm.limits[{position}]", "must rise from row to row")

    @property
    def worst(self) -> str:
        """The tier before suspension."""
        return self.tiers[-1]


def sections(policy: object) -> tuple[str, ...]:
    """The names of the parts of a policy that are policies themselves."""
    return tuple(each.name for each in fields(policy) if is_dataclass(getattr(policy, each.name)))  # type: ignore[arg-type]


DEFAULT: Final = TieringPolicy()
