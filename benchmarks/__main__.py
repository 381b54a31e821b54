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
    for one in (parser, throughput):
        one.add_argument("--rounds", type=int, default=usual.rounds)
        one.add_argument("--seconds", type=float, default=usual.seconds, help="of each server in each round")
        one.add_argument("--connections", type=int, default=usual.connections)
    rollout.add_argument("--publishes", type=int, default=40)
    rollout.add_argument("--lost", type=int, default=8, help="notifications to lose")
    arguments = parser.parse_args()
    console = Console(width=110, highlight=False)
    console.print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
    if arguments.kind == "rollout":
        from benchmarks.rollout import measure_rollout

        measure_rollout(publishes=arguments.publishes, lost=arguments.lost, console=console)
    else:
        options = Options(rounds=arguments.rounds, seconds=arguments.seconds, connections=arguments.connections)
        measure(options, console)


if __name__ == "__main__":
    main()
