"""What must be true after a run, whatever was broken in it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import dataclass, field

import asyncpg
import httpx

from app.db.engine import make_engine
from app.journal.reader import DecisionFilter
from app.screening.policy_library import PolicyLibrary
from app.screening.replay import replay_log
from tests.faults.ground import REPLICAS, WORKERS, Ground
from tests.faults.load import Ledger
from tests.support.cluster import Database

_BUDGETS_THAT_LEAK = """
SELECT p.period_id FROM gate.budget_periods p LEFT JOIN gate.reservation_units u USING (period_id)
LEFT JOIN gate.reservations r USING (decision_id)
GROUP BY p.period_id, p.reserved
HAVING p.reserved <> coalesce(sum(u.units) FILTER (WHERE r.state = 'reserved'), 0)
"""
_PASSED_BUDGETS = """
SELECT budget_id FROM gate.budget_periods p JOIN gate.budgets b USING (budget_id)
WHERE p.reserved + p.posted > b.limit_units
"""
_ACCEPTS_WITHOUT_RESERVATION = """
SELECT decision_id FROM (SELECT decision_id FROM gate.decisions WHERE outcome = 'accept') d
FULL JOIN gate.reservations r USING (decision_id) WHERE d.decision_id IS NULL OR r.decision_id IS NULL
"""


@dataclass(slots=True)
class Verdict:
    """How many answers were lost, doubled or wrong, and what else is not as it must be."""

    lost: int = 0
    doubled: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether everything that was promised was kept."""
        return not (self.lost or self.doubled or self.wrong)


async def check(ground: Ground, ledger: Ledger) -> Verdict:
    """Hold the ledger against the database, and the database against itself."""
    verdict = Verdict(wrong=list(ledger.wrong))
    connection = await asyncpg.connect(ground.database.superuser)
    try:
        rows = await connection.fetch("SELECT application_id, revision, response FROM gate.decisions")
        stored: dict[str, bytes] = {}
        for row in rows:
            key = f"{row['application_id']}/{row['revision']}"
            verdict.doubled += key in stored
            stored[key] = row["response"]
        verdict.lost = len(ledger.answers.keys() - stored.keys())
        verdict.wrong += [
            f"{key}: stored and answered differ" for key, answer in ledger.answers.items() if stored.get(key) != answer
        ]
        for what, query in (
            ("budgets do not hold what their reservations do", _BUDGETS_THAT_LEAK),
            ("budgets are passed", _PASSED_BUDGETS),
            ("accepts and reservations do not match", _ACCEPTS_WITHOUT_RESERVATION),
        ):
            found = await connection.fetch(query)
            if found:
                verdict.wrong.append(f"{what}: {len(found)}")
    finally:
        await connection.close()
    verdict.wrong += await _replayed(ground.database)
    verdict.wrong += await asyncio.to_thread(_audited, ground.database)
    verdict.wrong += await _stuck(ground)
    return verdict


async def _replayed(database: Database) -> list[str]:
    engine = make_engine(database.serving, pool_size=1, statement_timeout_seconds=60)
    async with engine.connect() as connection:
        report = await replay_log(connection, PolicyLibrary(), DecisionFilter())
    await engine.dispose()
    return [] if report.exact else [f"replay: {finding}" for finding in report.findings[:5]]


def _audited(database: Database) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", "from app.cli import main; main()", "audit", "verify"],
        env={**os.environ, **database.environment()},
        capture_output=True,
        text=True,
        check=False,
    )
    return [] if done.returncode == 0 else [f"audit: {done.stderr.strip()[:300]}"]


async def _stuck(ground: Ground) -> list[str]:
    """Every worker must be alive, ready and on the current version."""
    client = ground.servers[0].client("admin")
    deadline = asyncio.get_running_loop().time() + 60
    while asyncio.get_running_loop().time() < deadline:
        try:
            rollout = (await client.get("/v1/rollout")).json()
            if rollout.get("confirmed") and len(rollout["workers"]) == REPLICAS * WORKERS:
                return []
        except (httpx.TransportError, KeyError, ValueError):
            pass
        await asyncio.sleep(0.2)
    return ["a worker is not on the current version a minute after the last fault"]
