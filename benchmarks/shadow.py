"""What a challenger costs the answers: the same server with and without one, in turns within one run.

The challenger is set and cleared over HTTP between the measurements. With `hung`, its evaluation never ends: see
`tests/shadow/evaluators.py` for how such a server is started.
"""

from __future__ import annotations

import json
import random
import statistics
import time
import urllib.request
from itertools import count
from typing import Any, TypeAlias

from rich.console import Console
from rich.table import Table

from app.policies.defaults import default_policy
from benchmarks.ground import Cores, Ground, ServerProcess, ground, server_process
from benchmarks.load import LoadPlan, LoadResult, run_load

_WARM_UP_SECONDS = 1.0
_SERVERS = {
    "sound": ("-c", "from app.cli import main; main()", "serve"),
    "hung": ("-m", "tests.shadow.evaluators", "spins"),
}
_ARMS = ("without", "without, again", "with")
_RESAMPLES = 2_000

Rounds: TypeAlias = "dict[str, list[LoadResult]]"
"""What each arm came to in each round."""


def measure_shadow(*, rounds: int, seconds: float, connections: int, think_seconds: float, console: Console) -> None:
    """Print p50 and p99 over all rounds, and their ratio to those without a challenger with a 95 % interval.

    The second arm is like the first: its ratio shows what this machine makes of no difference at all.
    """
    table = Table(title=f"{connections} connections, {think_seconds * 1e3:g} ms between requests, {rounds} rounds")
    for column in ("challenger", "arm", "answers", "p50 ms", "p99 ms", "CPU us", "p50 ratio", "p99 ratio (95 %)"):
        table.add_column(column)
    with ground(Cores.available()) as place:
        for kind, arguments in _SERVERS.items():
            # The system places the challenger's process: it may take what the service could have used.
            with server_process(f"shadow-{kind}", arguments, place, cores=frozenset()) as server:
                measured = _measured(place, server, rounds, seconds, connections, think_seconds)
                _add_rows(table, kind, measured)
                console.print(f"{kind}: {_counted(place, server)}")
    console.print(table)


def _measured(
    place: Ground, server: ServerProcess, rounds: int, seconds: float, connections: int, think_seconds: float
) -> Rounds:
    """All arms in each round, beginning with another one each time."""
    found: Rounds = {arm: [] for arm in _ARMS}
    for number in range(rounds):
        turn = number % len(_ARMS)
        for arm in (*_ARMS[turn:], *_ARMS[:turn]):
            _set(place, server, shadowed=arm == "with")
            plan = LoadPlan(
                port=server.port,
                key=place.keys["origination"],
                server_pid=server.pid,
                run=next(_RUNS),
                connections=connections,
                warm_up_seconds=_WARM_UP_SECONDS,
                seconds=seconds,
                think_seconds=think_seconds,
                keep_latencies=True,
            )
            found[arm].append(run_load(plan, frozenset()))
    return found


_RUNS = count(1)


def _add_rows(table: Table, kind: str, measured: Rounds) -> None:
    latencies = {arm: [each.latencies_ms for each in results] for arm, results in measured.items()}
    base = latencies[_ARMS[0]]
    for arm in _ARMS:
        rounds = latencies[arm]
        table.add_row(
            kind if arm == _ARMS[0] else "",
            arm,
            str(sum(map(len, rounds))),
            *(f"{statistics.median(_quantile(each, share) for each in rounds):.2f}" for share in (0.5, 0.99)),
            f"{statistics.median(each.cpu_us for each in measured[arm]):.0f}",
            *(("", "") if arm == _ARMS[0] else (_ratio(latencies[arm], base, share) for share in (0.5, 0.99))),
        )


def _ratio(some: list[list[float]], base: list[list[float]], share: float) -> str:
    """The ratio of the median rounds' quantiles, and where it lies when whole rounds are drawn again and again.

    One hiccup of the machine holds most of the slowest answers of a whole run; the median round is not moved by it.
    """
    draw = random.Random(0)
    above, below = ([_quantile(each, share) for each in arm] for arm in (some, base))

    def ratio(numbers: list[int]) -> float:
        return statistics.median(above[n] for n in numbers) / statistics.median(below[n] for n in numbers)

    drawn = sorted(ratio(draw.choices(range(len(base)), k=len(base))) for _ in range(_RESAMPLES))
    low, high = (drawn[int(_RESAMPLES * each)] for each in (0.025, 0.975))
    return f"{ratio(list(range(len(base)))):.3f} ({low:.3f} to {high:.3f})"


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(len(values) * share)]


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
