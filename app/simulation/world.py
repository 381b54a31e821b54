"""What a simulated world is made of: channels with their true quality, and what holds for all of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from app.domain.channel import ChannelKind

BAND_STARTS: Final = (0, 620, 650, 680, 720, 760)
"""Lower edges of the score bands that the reference's segments are; the first one also holds who has no file."""
SEGMENTS: Final = tuple(f"score from {start}" for start in BAND_STARTS)

EVENT_SHAPE: Final = (0.0, 0.16, 0.13, 0.11, 0.10, 0.09, 0.08, 0.075, 0.07, 0.065, 0.06, 0.06)
"""How the events of a year fall on the months on book: first payments are 30 days late in the second month."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelPlan:
    """A channel as it truly is.

    role: what it is there to show. theta: the true relative risk of its people from a month on, in order.
    monthly_loans: how many loans it would fund in a month in the middle tier. mean_score: of its people; drift_a_month:
    by how much that moves. enters: the month of its first application; newcomer: whether it begins in probation. cost:
    what it takes for a funded customer, besides commission, in minor units.
    """

    role: str
    kind: ChannelKind = ChannelKind.ONLINE
    theta: tuple[tuple[int, float], ...] = ((0, 1.0),)
    monthly_loans: int = 100
    mean_score: float = 690.0
    drift_a_month: float = 0.0
    enters: int = 0
    newcomer: bool = False
    cost: int = 15_000

    def theta_at(self, month: int) -> float:
        """The true relative risk of loans funded in a month."""
        return next(theta for since, theta in reversed(self.theta) if since <= month)

    @property
    def changes_in(self) -> int | None:
        """The month in which it becomes another channel."""
        return self.theta[1][0] if len(self.theta) > 1 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All that happens to a book. Fractions, and months counted from 0.

    hidden_risk: by how much the reference is wrong about people below `hidden_below` (1: not at all). shock: what every
    hazard is multiplied by from `shock_month` on. feed_delay_months: how far behind the servicing feeds are.
    season: by how much volumes and hazards swing over a year.
    """

    channels: tuple[ChannelPlan, ...]
    months: int = 24
    season: float = 0.08
    hidden_risk: float = 1.0
    hidden_below: int = 650
    shock: float = 1.0
    shock_month: int = 12
    feed_delay_months: int = 0
    person_confirms_after: int = 1
    """At how many reviews a held move has been found before the person lets it through, unless the book has shifted."""
    history_loans: int = 30_000
    """Loans of the time before, through channels of quality 1, on which the reference is fitted."""


def _fleet() -> tuple[ChannelPlan, ...]:
    """Twelve roles at each of four volumes, and a few newcomers."""
    kinds = tuple(ChannelKind)
    roles = (
        ChannelPlan(role="good", theta=((0, 0.65),)),
        ChannelPlan(role="better", theta=((0, 0.8),)),
        ChannelPlan(role="better", theta=((0, 0.8),)),
        ChannelPlan(role="average"),
        ChannelPlan(role="average"),
        ChannelPlan(role="average"),
        ChannelPlan(role="average, poor mix", mean_score=655.0),
        ChannelPlan(role="average, rich mix", mean_score=720.0),
        ChannelPlan(role="average, drifting mix", drift_a_month=-1.0),
        ChannelPlan(role="worse", theta=((0, 1.5),)),
        ChannelPlan(role="bad", theta=((0, 2.5),)),
        ChannelPlan(role="changes", theta=((0, 1.0), (12, 2.5))),  # the month depends on the volume
    )
    plans = [
        _of(role, kinds[(number + offset) % len(kinds)], volume)
        for offset, volume in enumerate((20, 50, 100, 300))
        for number, role in enumerate(roles)
    ]
    for theta, role in ((1.0, "newcomer, average"), (2.5, "newcomer, bad")):
        plans += [ChannelPlan(role=role, theta=((0, theta),), monthly_loans=50, newcomer=True, enters=3)] * 2
    return tuple(plans)


def _of(role: ChannelPlan, kind: ChannelKind, volume: int) -> ChannelPlan:
    return ChannelPlan(
        role=role.role,
        kind=kind,
        theta=role.theta if role.changes_in is None else ((0, 1.0), (_CHANGES_IN[volume], 2.5)),
        monthly_loans=volume,
        mean_score=role.mean_score,
        drift_a_month=role.drift_a_month,
    )


_CHANGES_IN: Final = {20: 8, 50: 10, 100: 12, 300: 6}
"""No two channels become others in the same month: that would be a shift of the book, which is a stress of its own."""

FLEET: Final = _fleet()
ORDINARY: Final = World(channels=FLEET)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stress:
    """A world that goes wrong, and what about it."""

    title: str
    world: World = field(default_factory=lambda: ORDINARY)


def _with_a_giant(plan: ChannelPlan) -> tuple[ChannelPlan, ...]:
    """The fleet without its largest volume, and one channel that has 60 % of all loans."""
    others = tuple(each for each in FLEET if each.monthly_loans < 300)
    total = sum(each.monthly_loans for each in others if not each.newcomer)
    giant = ChannelPlan(role=plan.role, theta=plan.theta, monthly_loans=round(total * 1.5))
    return (giant, *others)


def _changing_together() -> tuple[ChannelPlan, ...]:
    return tuple(replace(plan, theta=((0, 1.0), (12, 2.5))) if plan.changes_in is not None else plan for plan in FLEET)


STRESSES: Final = (
    Stress(title="reference 25 % too low for people below 650", world=World(channels=FLEET, hidden_risk=1.25)),
    Stress(title="every feed two months behind", world=World(channels=FLEET, feed_delay_months=2)),
    Stress(title="a shock of 1.6 on the whole book from month 12", world=World(channels=FLEET, shock=1.6)),
    Stress(
        title="one average channel with 60 % of the volume",
        world=World(channels=_with_a_giant(ChannelPlan(role="giant, average"))),
    ),
    Stress(
        title="one bad channel with 60 % of the volume",
        world=World(channels=_with_a_giant(ChannelPlan(role="giant, bad", theta=((0, 2.5),)))),
    ),
    Stress(title="four channels, 8 % of the volume, change in one month", world=World(channels=_changing_together())),
)
