"""What each login may do to the log: attacked as that login, never as a superuser."""

from __future__ import annotations

from datetime import UTC, datetime

import asyncpg
import pytest

from tests.retention.decision_log import DecisionLog

_DENIED = (asyncpg.InsufficientPrivilegeError,)

_WRITES = [
    "UPDATE gate.decisions SET outcome = 'accept'",
    "DELETE FROM gate.decisions",
    "TRUNCATE gate.decisions",
    "DROP TABLE gate.decisions",
    "INSERT INTO gate.decisions SELECT * FROM gate.decisions",
    "DELETE FROM gate.decision_keys",
    "UPDATE gate.quarantine SET input = NULL",
    "INSERT INTO gate.legal_holds (kind, reason, placed_by, placed_at) VALUES ('channel', 'x', 'x', now())",
    "DELETE FROM gate.legal_holds",
    "UPDATE gate.journal_digests SET digest = ''",
    "INSERT INTO gate.dropped_months VALUES ('consumer', '2020-01-01', now(), 1, 1, '')",
    "DELETE FROM gate.decision_facts",
    "UPDATE gate.channel_days SET accepts = 0",
    "INSERT INTO gate.audit_log SELECT * FROM gate.audit_log",
    "UPDATE gate.audit_head SET sequence = 0",
    "DELETE FROM gate.audit_log",
    "ALTER TABLE gate.decisions DETACH PARTITION gate.decisions_consumer",
    "ALTER TABLE gate.audit_log DISABLE TRIGGER ALL",
]
_GOVERNED = [
    "gate.person_erase('person-1', 'ordered', 25, 12, 'x', 'x', NULL)",
    "gate.month_drop('consumer', '2020-01-01', 25, 'x', NULL)",
    "gate.month_sweep('consumer', '2020-01-01', 25, 'x', NULL)",
    "gate.keys_expire('consumer', '2020-01-01', 25, NULL, 10)",
    "gate.quarantine_sweep(90, 'x', NULL)",
    "gate.hold_place('person-1', NULL, NULL, 'x', 'x', NULL)",
    "gate.hold_release(1, 'x', 'x', NULL)",
    "gate.journal_digest_make('2020-01-01', 'x', NULL)",
]
_INNER = [
    "gate.custody_lock()",
    "gate.lock_for_drop('decisions_consumer', 'decisions_consumer_2020_01')",
    "gate.audit_append('x', 'x', 'x', NULL, NULL, NULL, NULL)",
    "gate.input_applicant_ref('')",
]


@pytest.mark.parametrize("login", ["serving", "governance"])
@pytest.mark.parametrize("statement", _WRITES)
async def test_neither_login_writes_a_table(log: DecisionLog, login: str, statement: str) -> None:
    entry = await log.decide(datetime.now(UTC), applicant_ref="person-1")
    connection = await asyncpg.connect(getattr(log.database, login))
    try:
        with pytest.raises(_DENIED):
            await connection.execute(statement)
    finally:
        await connection.close()
    assert await log.ids() == {entry.decision_id}


@pytest.mark.parametrize("call", _GOVERNED)
async def test_serving_may_not_hold_erase_drop_or_digest(log: DecisionLog, call: str) -> None:
    connection = await asyncpg.connect(log.database.serving)
    try:
        with pytest.raises(_DENIED):
            await connection.execute(f"SELECT {call}")
    finally:
        await connection.close()


@pytest.mark.parametrize("login", ["serving", "governance"])
@pytest.mark.parametrize("call", _INNER)
async def test_neither_login_reaches_the_inner_functions(log: DecisionLog, login: str, call: str) -> None:
    connection = await asyncpg.connect(getattr(log.database, login))
    try:
        with pytest.raises(_DENIED):
            await connection.execute(f"SELECT {call}")
    finally:
        await connection.close()


@pytest.mark.parametrize(
    "table", ["legal_holds", "audit_log", "quarantine", "held_decisions", "decision_facts", "decision_custody"]
)
async def test_serving_does_not_read_what_governance_works_with(log: DecisionLog, table: str) -> None:
    connection = await asyncpg.connect(log.database.serving)
    try:
        with pytest.raises(_DENIED):
            await connection.execute(f"SELECT * FROM gate.{table}")
    finally:
        await connection.close()


async def test_no_function_of_the_schema_is_open_to_everyone(log: DecisionLog) -> None:
    open_ones = await log.arrange.fetch(
        """SELECT p.oid::regprocedure FROM pg_proc p
           LEFT JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a ON true
           WHERE p.pronamespace = 'gate'::regnamespace AND a.grantee = 0"""
    )
    assert [row[0] for row in open_ones] == []


async def test_every_function_with_the_owners_rights_pins_its_search_path(log: DecisionLog) -> None:
    loose = await log.arrange.fetch(
        """SELECT p.oid::regprocedure FROM pg_proc p
           WHERE p.pronamespace = 'gate'::regnamespace AND p.prosecdef
             AND NOT coalesce(p.proconfig @> ARRAY['search_path=pg_catalog, pg_temp'], false)"""
    )
    assert [row[0] for row in loose] == []
