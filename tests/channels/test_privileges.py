"""What the two logins of the service cannot do, tried as themselves."""

from __future__ import annotations

import asyncpg
import pytest

from tests.support.cluster import Database

ADMIN_FUNCTIONS = (
    "channel_register",
    "channel_amend",
    "channel_set_state",
    "channel_alias_put",
    "channel_alias_remove",
    "tier_assign",
    "policy_publish",
    "originator_register",
    "api_key_create",
    "api_key_revoke",
)


async def _tables(database: Database) -> list[str]:
    owner = await asyncpg.connect(database.owner)
    try:
        rows = await owner.fetch(
            "SELECT c.oid::regclass::text AS name FROM pg_class c"
            " WHERE c.relnamespace = 'gate'::regnamespace AND c.relkind IN ('r', 'p')"
        )
    finally:
        await owner.close()
    return [row["name"] for row in rows]


@pytest.mark.parametrize("login", ["serving", "governance"])
async def test_a_login_writes_no_table(database: Database, login: str) -> None:
    tables = await _tables(database)
    assert len(tables) > 15
    connection = await asyncpg.connect(getattr(database, login))
    try:
        for table in tables:
            for attack in (f"INSERT INTO {table} DEFAULT VALUES", f"DELETE FROM {table}", f"TRUNCATE {table}"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(attack)
            column = await connection.fetchval(
                "SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum = 1", table
            )
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f'UPDATE {table} SET "{column}" = DEFAULT')
    finally:
        await connection.close()


@pytest.mark.parametrize("login", ["serving", "governance"])
async def test_a_login_changes_no_schema_and_no_trigger(database: Database, login: str) -> None:
    connection = await asyncpg.connect(getattr(database, login))
    try:
        for attack in (
            "CREATE TABLE gate.mine (a int)",
            "CREATE FUNCTION gate.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "ALTER TABLE gate.policies DISABLE TRIGGER ALL",
            "DROP TRIGGER policies_are_immutable ON gate.policies",
            "ALTER TABLE gate.tier_assignments DROP CONSTRAINT tier_assignments_do_not_overlap",
            "SET session_replication_role = replica",
            "SET ROLE channel_gate_owner",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(attack)
    finally:
        await connection.close()


async def test_serving_may_not_call_the_functions_of_administration(database: Database) -> None:
    connection = await asyncpg.connect(database.serving)
    try:
        rows = await connection.fetch(
            "SELECT proname, has_function_privilege(oid, 'EXECUTE') AS allowed, prosecdef, proconfig FROM pg_proc"
            " WHERE pronamespace = 'gate'::regnamespace AND proname = ANY($1)",
            list(ADMIN_FUNCTIONS),
        )
    finally:
        await connection.close()
    assert {row["proname"] for row in rows} == set(ADMIN_FUNCTIONS)
    assert not any(row["allowed"] for row in rows)
    assert all(row["prosecdef"] and "search_path=pg_catalog, pg_temp" in row["proconfig"] for row in rows)


@pytest.mark.parametrize("login", ["serving", "governance"])
async def test_nobody_appends_to_the_audit_log_or_moves_the_revision_directly(database: Database, login: str) -> None:
    connection = await asyncpg.connect(getattr(database, login))
    try:
        for call in (
            "SELECT gate.audit_append('me', 'x', 'x', NULL, NULL, NULL, NULL)",
            "SELECT gate.next_revision()",
            "SELECT gate.channel_by_code('x')",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(call)
    finally:
        await connection.close()
