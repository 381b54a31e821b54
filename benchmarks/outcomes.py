"""How long a file of outcome events takes: from its first line to its last event booked, folded and settled."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path
from time import perf_counter

import asyncpg
from rich.console import Console

from benchmarks.ground import Cores, Ground, ground

_EVENTS_EACH = 10
_DECIDE = """
    WITH s AS (SELECT policy_version FROM gate.state),
    c AS (SELECT channel_id, code FROM gate.channels WHERE code = 'app-store'),
    n AS (SELECT i, gen_random_uuid() AS id, now() - i * interval '1 second' / 10 AS at
          FROM generate_series(0, $1 - 1) i),
    k AS (INSERT INTO gate.decision_keys
          SELECT 1, 'A-' || i, 1, 'consumer', at, id, sha256('x') FROM n),
    r AS (INSERT INTO gate.reservations (decision_id, channel_id, amount, currency, reserved_at, expires_at)
          SELECT id, channel_id, 5000000, 'CNY', at, at + interval '3 days' FROM n, c),
    u AS (INSERT INTO gate.reservation_units (decision_id, period_id, units)
          SELECT id, $2, 5000000 FROM n)
    INSERT INTO gate.decisions (decision_id, decided_at, retention_class, originator_id, application_id, revision,
        channel_id, channel_code, product, tier, policy_version, engine, outcome, next_action, amount, currency,
        term_months, reason_codes, fingerprint, content_digest, input, record, response)
    SELECT id, at, 'consumer', 1, 'A-' || i, 1, channel_id, code, 'unsecured_consumer', 'prime', policy_version, '1',
           'accept', 'proceed', 5000000, 'CNY', 12, '{}', sha256('x'), sha256('x'),
           convert_to('{"bureau": {"score": 640, "score_band": "C"}}', 'UTF8'), '{}', '{}'
    FROM n, s, c
"""


def measure_outcomes(*, events: int, console: Console) -> None:
    """Load a file of `events` events, ten of each application, and print how long it took; then load it again."""
    with ground(Cores.available()) as place:
        asyncio.run(_decide(place, events // _EVENTS_EACH))
        file = place.directory / "events.ndjson"
        _write(file, events)
        console.print(f"{events:,} events, {file.stat().st_size / 1e6:.0f} MB of NDJSON")
        for title in ("first", "again"):
            begun = perf_counter()
            done = _load(place, file)
            seconds = perf_counter() - begun
            console.print(f"{title}: {seconds:.1f} s, {events / seconds:,.0f} events a second; {done}")


def _write(file: Path, events: int) -> None:
    funded = date(2026, 1, 10)
    with file.open("w", encoding="utf-8") as out:
        # By day, as a servicing system exports it: each application is met again and again.
        for turn in range(_EVENTS_EACH):
            for number in range(events // _EVENTS_EACH):
                event: dict[str, object] = {"application_id": f"A-{number}"}
                day = (funded + timedelta(days=30 * turn)).isoformat()
                if turn == 0:
                    event |= {"kind": "funded", "occurred_on": day, "amount": 5_000_000 - number % 100}
                elif turn == _EVENTS_EACH - 1 and number % 3 == 0:
                    event |= {"kind": "paid_off", "occurred_on": day}
                else:
                    late = number % 7 * turn if number % 5 == 0 else 0
                    event |= {"kind": "performance", "occurred_on": day, "days_past_due": late}
                    event["balance"] = 5_000_000 - turn * 400_000
                out.write(json.dumps(event) + "\n")


def _load(place: Ground, file: Path) -> str:
    program = [sys.executable, "-c", "from app.cli import main; main()", "import", "outcomes", str(file)]
    program += ["--originator", "demo-origination", "--actor", "benchmark", "--json"]
    environment = {**os.environ, **place.urls.environment()}
    return subprocess.run(program, env=environment, check=True, capture_output=True, text=True).stdout.strip()


async def _decide(place: Ground, applications: int) -> None:
    """Accepts in the log, each with its reservation in one budget of everything that is outstanding."""
    connection = await asyncpg.connect(place.urls.owner)
    try:
        budget = await connection.fetchval(
            "SELECT budget_id FROM gate.budget_set(NULL, NULL, NULL, NULL, 'outstanding', 'amount', 'CNY', $1,"
            " 100, NULL, 'UTC', 'benchmark', 'benchmark', NULL)",
            10**15,
        )
        period = await connection.fetchval("SELECT period_id FROM gate.budget_periods WHERE budget_id = $1", budget)
        await connection.execute("SELECT gate.partitions_ensure(1)")
        await connection.execute(_DECIDE, applications, period)
        await connection.execute(
            "UPDATE gate.budget_periods SET reserved = 5000000::bigint * $1 WHERE period_id = $2", applications, period
        )
        await connection.execute("ANALYZE gate.decision_keys, gate.reservations, gate.reservation_units")
    finally:
        await connection.close()
