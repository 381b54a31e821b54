"""`make faults`: break things under load, by seed, and prove that nothing was lost, doubled or wrong."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from rich.console import Console
from rich.table import Table

from tests.faults.checker import Verdict, check
from tests.faults.ground import Ground, ground
from tests.faults.injectors import FAULTS, open_files_for_the_load
from tests.faults.load import Ledger, Load

CLIENTS = 24
BUDGETED_CHANNEL = "app-store"
BUDGET = 300
_SETTLE_WITHIN_SECONDS = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one seed came to."""

    seed: int
    faults: Counter[str]
    ledger: Ledger
    verdict: Verdict
    gaps: list[tuple[float, float]]


async def run_one(seed: int, *, seconds: float, names: list[str], log: Path | None, console: Console) -> Run:
    """One run: load and faults for `seconds`, then peace until everything begun is answered, then the checks."""
    dice = random.Random(seed)
    async with ground(small_disk="full disk" in names) as place:
        possible = [name for name in names if name != "full disk" or place.small_disk]
        await _set_budget(place)
        ledger, faults = Ledger(), Counter[str]()
        load = Load(
            [server.client(timeout_seconds=20) for server in place.servers],
            ledger,
            seed=seed,
            channel=BUDGETED_CHANNEL,
            clients=CLIENTS,
        )
        loading, keeping = asyncio.create_task(load.run()), asyncio.create_task(place.keep_running())
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            await asyncio.sleep(dice.uniform(0.2, 1.5))
            name = dice.choice(possible)
            console.print(f"  {time.monotonic() - began:5.1f} s  {name}", style="dim")
            faults[name] += 1
            await FAULTS[name](place, dice)
        load.stop()
        await asyncio.wait_for(loading, _SETTLE_WITHIN_SECONDS)
        ended = time.monotonic()
        verdict = await check(place, ledger)
        keeping.cancel()
        if log is not None:
            log.write_text("".join(server.log for server in place.servers), encoding="utf-8")
        return Run(
            seed=seed,
            faults=faults,
            ledger=ledger,
            verdict=verdict,
            gaps=ledger.gaps(began, ended)[:3],
        )


async def _set_budget(place: Ground) -> None:
    connection = await asyncpg.connect(place.database.governance)
    try:
        await connection.fetchval(
            "SELECT budget_id FROM gate.budget_set($1, NULL, NULL, NULL, 'monthly', 'count', NULL, $2, 100, NULL, "
            "'Asia/Shanghai', 'faults', 'faults', NULL)",
            BUDGETED_CHANNEL,
            BUDGET,
        )
    finally:
        await connection.close()


def show(runs: list[Run], console: Console) -> None:
    """The table."""
    table = Table(title="Fault runs")
    columns = ("seed", "faults", "sent", "acknowledged", "lost", "doubled", "wrong", "longest without service, s")
    for column in columns:
        table.add_column(column, justify="right")
    for run in runs:
        table.add_row(
            str(run.seed),
            str(run.faults.total()),
            f"{run.ledger.requests:,}",
            f"{len(run.ledger.acknowledged_at):,}",
            *(str(number) for number in (run.verdict.lost, run.verdict.doubled, len(run.verdict.wrong))),
            f"{run.gaps[0][1]:.1f}",
        )
    console.print(table)
    total = sum((run.faults for run in runs), Counter[str]())
    console.print("Injected: " + ", ".join(f"{count} {name}" for name, count in total.most_common()))
    for run in runs:
        console.print(
            f"seed {run.seed}: no answer "
            + ", ".join(f"for {length:.1f} s from {at:.1f} s" for at, length in run.gaps)
            + "; refused: "
            + ", ".join(f"{count} {kind}" for kind, count in run.ledger.refusals.most_common())
        )
        for each in run.verdict.wrong[:10]:
            console.print(f"seed {run.seed}: {each}", style="red")


def main() -> int:
    """1 where a run lost, doubled or answered wrongly."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, action="append", help="more than once for several runs (default 1, 2, 3)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of load and faults in each run")
    parser.add_argument("--fault", action="append", choices=list(FAULTS), help="only this one; more than once for more")
    parser.add_argument("--log", type=Path, help="where to put what the service of the last run wrote")
    arguments = parser.parse_args()
    console = Console(width=120, highlight=False)
    open_files_for_the_load()
    runs = []
    for seed in arguments.seed or [1, 2, 3]:
        console.print(f"seed {seed}")
        names = arguments.fault or list(FAULTS)
        runs.append(
            asyncio.run(run_one(seed, seconds=arguments.seconds, names=names, log=arguments.log, console=console))
        )
    show(runs, console)
    return 0 if all(run.verdict.sound for run in runs) else 1


if __name__ == "__main__":
    sys.exit(main())
