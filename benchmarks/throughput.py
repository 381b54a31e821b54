"""Durable decisions beside the same front end without the log and beside a plain FastAPI endpoint, in one run.

The servers run at the same time and take turns under the load, so that a noisy machine is noisy for all of them:
the ratios of one round are the figures to trust, then CPU time for each request, then requests per second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from statistics import median

import asyncpg
from rich.console import Console
from rich.table import Table

from benchmarks.ground import Cores, Ground, ServerProcess, ground, server_process
from benchmarks.load import LoadPlan, LoadResult, run_load

GATE, WITHOUT_LOG = "gate", "gate without the log"
PLAIN, IN_THREAD = "plain FastAPI, async def", "plain FastAPI, def"
_SERVE = ("-c", "from app.cli import main; main()", "serve")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How long to measure: `rounds` of `seconds` for each server under full load, and as long for the other loads."""

    rounds: int = 5
    seconds: float = 3.0
    connections: int = 64


def measure(options: Options, console: Console) -> None:
    """Run everything and print the tables."""
    cores = Cores.available()
    with ExitStack() as stack:
        place = stack.enter_context(ground(cores))
        servers = [
            stack.enter_context(server_process(name, arguments, place, cores=cores.server))
            for name, arguments in (
                (GATE, _SERVE),
                (WITHOUT_LOG, ("-m", "benchmarks.subjects", "without-log")),
                (PLAIN, ("-m", "benchmarks.subjects", "plain")),
                (IN_THREAD, ("-m", "benchmarks.subjects", "plain-in-thread")),
            )
        ]
        runs = count(1)

        def load(server: ServerProcess, *, connections: int, think_seconds: float = 0.0) -> LoadResult:
            plan = LoadPlan(
                port=server.port,
                key=place.keys["origination"],
                server_pid=server.pid,
                run=next(runs),
                connections=connections,
                warm_up_seconds=min(0.5, options.seconds / 4),
                seconds=options.seconds,
                think_seconds=think_seconds,
            )
            return run_load(plan, cores.others)

        full: dict[str, list[LoadResult]] = {server.name: [] for server in servers}
        for _ in range(options.rounds):
            for server in servers:
                full[server.name].append(load(server, connections=options.connections))
        _print_loads(console, f"Full load, {options.connections} connections", full)
        _print_ratios(console, full)
        alone = {server.name: [load(server, connections=1)] for server in servers}
        _print_loads(console, "One connection alone", alone)
        half = {
            server.name: [
                load(
                    server,
                    connections=options.connections,
                    think_seconds=2 * options.connections / median(one.per_second for one in full[server.name]),
                )
            ]
            for server in servers
        }
        _print_loads(console, f"About half of that load, {options.connections} connections that think in between", half)
        outcomes = asyncio.run(_outcomes(place))
        console.print("In the log: " + ", ".join(f"{rows} {outcome}" for outcome, rows in outcomes))


def _print_loads(console: Console, title: str, loads: dict[str, list[LoadResult]]) -> None:
    table = Table(title=title, title_justify="left")
    table.add_column("server")
    for name in ("req/s", "p50 ms", "p99 ms", "CPU us / request", "load busy"):
        table.add_column(name, justify="right")
    for name, results in loads.items():
        figures = (
            (f"{value:,.0f}" if digits == 0 else f"{value:.{digits}f}")
            for value, digits in (
                (median(one.per_second for one in results), 0),
                (median(one.p50_ms for one in results), 1),
                (median(one.p99_ms for one in results), 1),
                (median(one.cpu_us for one in results), 0),
                (median(one.load_busy for one in results), 2),
            )
        )
        table.add_row(name, *figures)
    console.print(table)


def _print_ratios(console: Console, loads: dict[str, list[LoadResult]]) -> None:
    table = Table(title="Ratios of one round", title_justify="left")
    for name in ("ratio", "median", "least", "most"):
        table.add_column(name, justify="left" if name == "ratio" else "right")

    def add(title: str, over: str, under: str, figure: Callable[[LoadResult], float]) -> None:
        ratios = [figure(one) / figure(other) for one, other in zip(loads[over], loads[under], strict=True)]
        table.add_row(title, *(f"{value:.2f}" for value in (median(ratios), min(ratios), max(ratios))))

    for plain in (PLAIN, IN_THREAD):
        add(f"req/s, gate over {plain}", GATE, plain, lambda one: one.per_second)
    add("req/s, gate over gate without the log", GATE, WITHOUT_LOG, lambda one: one.per_second)
    for plain in (PLAIN, IN_THREAD):
        add(f"CPU, {plain} over gate", plain, GATE, lambda one: one.cpu_us)
    add("CPU, gate without the log over gate", WITHOUT_LOG, GATE, lambda one: one.cpu_us)
    console.print(table)


async def _outcomes(place: Ground) -> list[tuple[str, int]]:
    connection = await asyncpg.connect(place.superuser_url)
    try:
        rows = await connection.fetch("SELECT outcome, count(*) FROM gate.decisions GROUP BY 1 ORDER BY 2 DESC")
        return [(row["outcome"], row["count"]) for row in rows]
    finally:
        await connection.close()
