"""Does the tiering do what it must? Histories of simulated worlds, by both statistics, and beside them the naive rule.

`make tiering-acceptance` (REPETITIONS=60). Each history is some seconds of one core. Ends with 1 where the
built-in policy breaks a promise in the ordinary world.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from app.domain.compiler import compile_policy
from app.policies.defaults import default_policy
from app.simulation.acceptance import HEADS, criteria, row
from app.simulation.life import Trace
from app.simulation.trial import Trial, ordinary_groups, try_world
from app.simulation.world import ORDINARY, STRESSES, World
from app.tiering.policy import DEFAULT, Statistic

_WORLDS: dict[str, World] = {"the ordinary world": ORDINARY} | {stress.title: stress.world for stress in STRESSES}


class _Job(NamedTuple):
    world: str
    statistic: Statistic
    seed: int


def _live(job: _Job) -> Trace:
    gate = compile_policy(default_policy(), version=1)
    policy = replace(DEFAULT, statistic=job.statistic)
    return try_world(_WORLDS[job.world], gate, policy, repetitions=1, seed=job.seed).traces[0]


def _trials(jobs: list[_Job], traces: Iterable[Trace]) -> dict[tuple[str, Statistic], Trial]:
    gathered: dict[tuple[str, Statistic], list[Trace]] = {}
    for job, trace in zip(jobs, traces, strict=True):
        gathered.setdefault((job.world, job.statistic), []).append(trace)
    return {
        (world, statistic): Trial(
            world=_WORLDS[world], policy=replace(DEFAULT, statistic=statistic), traces=tuple(found)
        )
        for (world, statistic), found in gathered.items()
    }


def _show(console: Console, title: str, trial: Trial) -> None:
    table = Table(*HEADS, title=title, title_justify="left")
    for group in ordinary_groups():
        if any(group.who(plan) for plan in trial.world.channels):
            table.add_row(*row(trial.finding(group)))
    console.print(table)
    console.print(f"reviews that a safeguard stopped as a whole: {100 * trial.stopped_share:.0f} %\n")


def main() -> int:
    """Live, print, and say whether every promise is kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--repetitions", type=int, default=60, help="histories of the ordinary world, by each statistic"
    )
    parser.add_argument("--stressed", type=int, default=20, help="histories of each stressed world")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1_000)
    given = parser.parse_args()
    jobs = [
        _Job("the ordinary world", statistic, given.seed + number)
        for number in range(given.repetitions)
        for statistic in Statistic
    ]
    jobs += [
        _Job(stress.title, DEFAULT.statistic, given.seed + number)
        for stress in STRESSES
        for number in range(given.stressed)
    ]
    console = Console(width=130)
    began = time.monotonic()
    with ProcessPoolExecutor(given.processes, mp_context=get_context("spawn")) as pool:
        trials = _trials(jobs, pool.map(_live, jobs, chunksize=2))
    kept = True
    for (world, statistic), trial in trials.items():
        _show(
            console,
            f"{world}, {len(trial.traces)} histories of {trial.world.months} months, by {statistic.value}",
            trial,
        )
        if world == "the ordinary world":
            for criterion in criteria(trial):
                console.print(f"{'kept' if criterion.kept else 'NOT KEPT'}: {criterion.promise}: {criterion.measured}")
                kept = kept and (criterion.kept or statistic is not DEFAULT.statistic)
            console.print()
    console.print(f"{len(jobs)} histories in {time.monotonic() - began:.0f} s")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
