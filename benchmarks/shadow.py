"""What a challenger costs the answers: the same server with and without one, in turns within one run.

The challenger is set and cleared over HTTP between the measurements. With `hung`, its evaluation never ends: see
`tests/shadow/evaluators.py` for how such a server is started.
"""

from __future__ import annotations

import json
import statistics
import time
import urllib.request
from typing import Any

from rich.console import Console
from rich.table import Table

from app.policies.defaults import default_policy
from benchmarks.ground import Cores, Ground, ServerProcess, ground, server_process
from benchmarks.load import LoadPlan, LoadResult, run_load

_WARM_UP_SECONDS = 2.0
_SERVERS = {
    "sound": ("-c", "from app.cli import main; main()", "serve"),
    "hung": ("-m", "tests.shadow.evaluators", "spins"),
}


def measure_shadow(*, rounds: int, seconds: float, connections: int, think_seconds: float, console: Console) -> None:
    """Print p50 and p99 with and without a challenger, and the ratios of neighbouring measurements."""
    cores = Cores.available()
    table = Table(title=f"{connections} connections, {think_seconds * 1e3:g} ms between requests, {rounds} rounds")
    for column in (
        "challenger",
        "",
        "p50 ms",
        "p99 ms",
        "decisions/s",
        "p50 ratio",
        "p99 ratio, median (middle half; range)",
    ):
        table.add_column(column)
    run = 1
    with ground(cores) as place:
        for kind, arguments in _SERVERS.items():
            # The system places the challenger's process; the service may use what it would have.
            with server_process(f"shadow-{kind}", arguments, place, cores=frozenset()) as server:
                results: dict[bool, list[LoadResult]] = {True: [], False: []}
                for number in range(rounds):
                    for shadowed in (False, True) if number % 2 else (True, False):
                        _set(place, server, shadowed=shadowed)
                        plan = LoadPlan(
                            port=server.port,
                            key=place.keys["origination"],
                            server_pid=server.pid,
                            run=run,
                            connections=connections,
                            warm_up_seconds=_WARM_UP_SECONDS,
                            seconds=seconds,
                            think_seconds=think_seconds,
                        )
                        run += 1
                        results[shadowed].append(run_load(plan, frozenset()))
                _add_rows(table, kind, results)
                console.print(f"{kind}: {_counted(place, server)}")
    console.print(table)


def _add_rows(table: Table, kind: str, results: dict[bool, list[LoadResult]]) -> None:
    pairs = list(zip(results[True], results[False], strict=True))
    middle = statistics.median(with_.p50_ms / without.p50_ms for with_, without in pairs)
    ratios = sorted(with_.p99_ms / without.p99_ms for with_, without in pairs)
    low, median, high = statistics.quantiles(ratios, n=4)
    spread = f"{median:.3f} ({low:.3f} to {high:.3f}; {ratios[0]:.3f} to {ratios[-1]:.3f})"
    for shadowed, p50, p99 in ((False, "", ""), (True, f"{middle:.3f}", spread)):
        some = results[shadowed]
        table.add_row(
            kind if not shadowed else "",
            "with" if shadowed else "without",
            f"{statistics.median(each.p50_ms for each in some):.2f}",
            f"{statistics.median(each.p99_ms for each in some):.2f}",
            f"{statistics.median(each.per_second for each in some):.0f}",
            p50,
            p99,
        )


def _challenger() -> dict[str, Any]:
    document = default_policy() | {"cases": [], "name": "challenger"}
    rule = next(rule for rule in document["rules"] if rule["code"] == "BU03")
    rule["thresholds"] = {"prime": 640, "general": 660, "risk": 700}
    return document


def _set(place: Ground, server: ServerProcess, *, shadowed: bool) -> None:
    """Set or clear the challenger, and wait until the worker serves it so."""
    _call(place, server, "PUT", "/v1/policies/challenger", _challenger())
    if not shadowed:
        _call(place, server, "DELETE", "/v1/policies/challenger")
    while not json.loads(_call(place, server, "GET", "/v1/rollout"))["confirmed"]:
        time.sleep(0.05)


def _counted(place: Ground, server: ServerProcess) -> str:
    lines = _call(place, server, "GET", "/metrics").decode().splitlines()
    return ", ".join(line for line in lines if line.startswith(("gate_shadow_eval", "gate_shadow_restarts")))


def _call(place: Ground, server: ServerProcess, method: str, path: str, body: dict[str, Any] | None = None) -> bytes:
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {place.keys['admin']}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        content: bytes = answer.read()
        return content
