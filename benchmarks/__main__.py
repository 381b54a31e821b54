"""`make bench`: what the service does on this machine. Nothing here passes or fails."""

from __future__ import annotations

import argparse
import os
import platform

from rich.console import Console

from benchmarks.throughput import Options, measure


def main() -> None:
    """Read the options and measure."""
    usual = Options()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    kinds = parser.add_subparsers(dest="kind")
    throughput = kinds.add_parser("throughput", help="decisions per second beside other servers (the default)")
    rollout = kinds.add_parser("rollout", help="how long a change takes to reach four workers")
    kinds.add_parser("keys", help="what the check of an API key costs")
    for one in (parser, throughput):
        one.add_argument("--rounds", type=int, default=usual.rounds)
        one.add_argument("--seconds", type=float, default=usual.seconds, help="of each server in each round")
        one.add_argument("--connections", type=int, default=usual.connections)
    shadow = kinds.add_parser("shadow", help="what a challenger beside the active policy costs the answers")
    for name, kind, default in (("rounds", int, 30), ("seconds", float, 4.0), ("connections", int, 8)):
        shadow.add_argument(f"--{name}", type=kind, default=default)
    shadow.add_argument("--think", type=float, default=0.04, help="mean pause of a connection, in seconds")
    budgets = kinds.add_parser("budgets", help="what a budget costs where all traffic falls under it")
    for name, kind, default in (("rounds", int, 5), ("seconds", float, 4.0), ("connections", int, 64)):
        budgets.add_argument(f"--{name}", type=kind, default=default)
    budgets.add_argument("--workers", type=int, default=4)
    budgets.add_argument("--budgets", type=int, choices=(1, 2, 3), default=1, help="of the one channel, at once")
    rollout.add_argument("--publishes", type=int, default=40)
    rollout.add_argument("--lost", type=int, default=8, help="notifications to lose")
    outcomes = kinds.add_parser("outcomes", help="how long a file of outcome events takes to load")
    outcomes.add_argument("--events", type=int, default=1_000_000)
    arguments = parser.parse_args()
    console = Console(width=110, highlight=False)
    console.print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
    if arguments.kind == "rollout":
        from benchmarks.rollout import measure_rollout

        measure_rollout(publishes=arguments.publishes, lost=arguments.lost, console=console)
    elif arguments.kind == "budgets":
        from benchmarks.budgets import measure_budgets

        measure_budgets(
            rounds=arguments.rounds,
            seconds=arguments.seconds,
            connections=arguments.connections,
            workers=arguments.workers,
            budget_count=arguments.budgets,
            console=console,
        )
    elif arguments.kind == "keys":
        from benchmarks.keys import measure_keys

        measure_keys(console)
    elif arguments.kind == "outcomes":
        from benchmarks.outcomes import measure_outcomes

        measure_outcomes(events=arguments.events, console=console)
    elif arguments.kind == "shadow":
        from benchmarks.shadow import measure_shadow

        measure_shadow(
            rounds=arguments.rounds,
            seconds=arguments.seconds,
            connections=arguments.connections,
            think_seconds=arguments.think,
            console=console,
        )
    else:
        options = Options(rounds=arguments.rounds, seconds=arguments.seconds, connections=arguments.connections)
        measure(options, console)


if __name__ == "__main__":
    main()
