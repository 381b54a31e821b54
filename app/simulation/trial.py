"""Many histories of a world, and what the method did in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from app.domain.compiled import CompiledPolicy
from app.simulation.applicants import draw
from app.simulation.gate import decide
from app.simulation.life import Life, Trace
from app.simulation.world import ChannelPlan, World
from app.tiering.arrays import Flags, Floats, Integers
from app.tiering.policy import TieringPolicy

_SAMPLE = 20_000
_NEVER = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Channels of a world that are told about together: `who` of their plans.

    since_change: count from the month in which they become others; all of them do so in the same one.
    """

    title: str
    who: Callable[[ChannelPlan], bool]
    since_change: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What became of the channels of a group, over all histories: shares, and medians in months.

    A median is None where it happened to fewer than half.
    in_worst: ever in the worst tier or out of business; within_year: of those, within 12 months; months_to_worst: the
    median; found: a review found reason to move it down at all, whether or not that was applied; months_to_suspension;
    in_best: ever in the best tier; naive: ever called bad by the naive rule.
    """

    title: str
    cases: int
    in_worst: float
    within_year: float
    months_to_worst: float | None
    found: float
    months_to_found: float | None
    suspended: float
    months_to_suspension: float | None
    in_best: float
    naive: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The traces of all histories of a world under one tiering policy."""

    world: World
    policy: TieringPolicy
    traces: tuple[Trace, ...]

    def finding(self, group: Group) -> Finding:
        """What became of a group."""
        chosen = np.flatnonzero([group.who(plan) for plan in self.world.channels])
        worst = len(self.policy.tiers) - 1
        changes = {self.world.channels[channel].changes_in for channel in chosen}
        start = (changes.pop() or 0) if group.since_change else 0
        if group.since_change and changes:
            raise ValueError("the channels of such a group become others in the same month")
        stacked = np.stack([trace.tier[start:, chosen] for trace in self.traces])
        found = np.stack([trace.found[start:, chosen] for trace in self.traces])
        naive = np.stack([trace.naive[start:, chosen] for trace in self.traces])
        to_worst, to_out = _first(stacked >= worst), _first(stacked > worst)
        to_found = _first(found > 0)
        return Finding(
            title=group.title,
            cases=to_worst.size,
            in_worst=float((to_worst < _NEVER).mean()),
            within_year=float((to_worst <= 12).mean()),
            months_to_worst=_median(to_worst),
            found=float((to_found < _NEVER).mean()),
            months_to_found=_median(to_found),
            suspended=float((to_out < _NEVER).mean()),
            months_to_suspension=_median(to_out),
            in_best=float((stacked == 0).any(axis=1).mean()),
            naive=float((_first(naive > 0) < _NEVER).mean()),
        )

    @property
    def stopped_share(self) -> float:
        """How many of the reviews were stopped as a whole."""
        return float(np.mean([bool(stops) for trace in self.traces for stops in trace.stops]))


def _first(met: Flags) -> Integers:
    """In which month, counted from 1, a history's channel met something first, `_NEVER` where it did not."""
    first = np.where(met.any(axis=1), met.argmax(axis=1) + 1, _NEVER)
    return np.asarray(first.ravel(), np.int64)


def _median(months: Integers) -> float | None:
    middle = float(np.median(months))
    return None if middle >= _NEVER / 2 else middle


def applications_needed(world: World, gate: CompiledPolicy, policy: TieringPolicy) -> Floats:
    """How many applications a month each channel sends, so that it funds its plan's loans in the middle tier."""
    random = np.random.default_rng(7)
    shares: dict[float, float] = {}
    for score in sorted({plan.mean_score for plan in world.channels}):
        people = draw(random, np.zeros(_SAMPLE, np.int64), np.full(_SAMPLE, score))
        decided = decide(
            random,
            gate,
            people,
            states=("active",),
            tiers=(policy.admitted_tier,),
            limits=np.array([_SAMPLE], np.int64),
        )
        shares[score] = decided.funded.size / _SAMPLE
    return np.array([plan.monthly_loans / shares[plan.mean_score] for plan in world.channels])


def histories(
    world: World, gate: CompiledPolicy, policy: TieringPolicy, *, repetitions: int, seed: int = 1
) -> Iterator[Life]:
    """Histories that have been lived, one after another; each has a seed of its own."""
    applications = applications_needed(world, gate, policy)
    for repetition in range(repetitions):
        life = Life(world, gate, policy, applications=applications, seed=seed + repetition)
        life.run()
        yield life


def try_world(world: World, gate: CompiledPolicy, policy: TieringPolicy, *, repetitions: int, seed: int = 1) -> Trial:
    """What the method did in so many histories of a world."""
    traces = tuple(life.trace for life in histories(world, gate, policy, repetitions=repetitions, seed=seed))
    return Trial(world=world, policy=policy, traces=traces)


def _theta(plan: ChannelPlan) -> float:
    return plan.theta[0][1]


def is_steady(plan: ChannelPlan, theta: float) -> bool:
    """Whether a channel has been known from the beginning and stays as it is."""
    return plan.changes_in is None and not plan.newcomer and _theta(plan) == theta


def ordinary_groups() -> tuple[Group, ...]:
    """What the acceptance of the method is told about."""
    groups = [
        Group(title="theta 1", who=lambda plan: is_steady(plan, 1.0)),
        Group(title="theta 1, poor mix", who=lambda plan: plan.role == "average, poor mix"),
        Group(title="theta 1, drifting mix", who=lambda plan: plan.role == "average, drifting mix"),
        Group(title="theta 0.65", who=lambda plan: is_steady(plan, 0.65)),
        Group(title="theta 0.8", who=lambda plan: is_steady(plan, 0.8)),
        Group(title="theta 2.5, n >= 50", who=lambda plan: is_steady(plan, 2.5) and plan.monthly_loans >= 50),
    ]
    volumes = (20, 50, 100, 300)
    groups += [_of_volume("theta 1.5", 1.5, volume) for volume in volumes]
    groups += [_of_volume("theta 2.5", 2.5, volume) for volume in volumes]
    groups += [
        Group(
            title=f"1 -> 2.5, n = {volume}",
            who=lambda plan, volume=volume: plan.changes_in is not None and plan.monthly_loans == volume,  # type: ignore[misc]
            since_change=True,
        )
        for volume in volumes
    ]
    groups += [
        Group(title=f"newcomer, theta {theta:g}", who=lambda plan, theta=theta: plan.newcomer and _theta(plan) == theta)  # type: ignore[misc]
        for theta in (1.0, 2.5)
    ]
    return tuple(groups)


def _of_volume(title: str, theta: float, volume: int) -> Group:
    return Group(
        title=f"{title}, n = {volume}", who=lambda plan: is_steady(plan, theta) and plan.monthly_loans == volume
    )
