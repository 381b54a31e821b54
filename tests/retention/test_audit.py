"""The audit log's chain: every way of bending it is found, and the first bent row is named."""

from __future__ import annotations

import hashlib
import json

import pytest

from app.retention.audit import Anchor, ChainError, export_rows, verify_chain
from tests.retention.decision_log import DecisionLog


async def verify(log: DecisionLog, anchor: Anchor | None = None) -> Anchor:
    async with log.governance("REPEATABLE READ") as connection:
        return await verify_chain(connection, anchor)


async def bend(log: DecisionLog, *statements: str) -> None:
    """Change the log as an intruder with the rights of a superuser would."""
    await log.arrange.execute("ALTER TABLE gate.audit_log DISABLE TRIGGER ALL")
    for statement in statements:
        await log.arrange.execute(statement)


async def count(log: DecisionLog) -> int:
    return int(await log.arrange.fetchval("SELECT count(*) FROM gate.audit_log"))


async def test_untouched_chain_gives_its_head(log: DecisionLog) -> None:
    head = await verify(log)
    row = await log.arrange.fetchrow("SELECT * FROM gate.audit_head")
    assert (head.sequence, head.hash) == (row["sequence"], row["hash"])
    assert head.sequence == await count(log) > 3
    assert await verify(log, head) == head
    assert Anchor.from_json(head.to_json()) == head


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE gate.audit_log SET payload = replace(payload, 'a', 'b') WHERE sequence = 2", "row 2 has been changed"),
        ("UPDATE gate.audit_log SET actor = 'nobody' WHERE sequence = 3", "row 3 has been changed: its columns"),
        ("UPDATE gate.audit_log SET at = at + interval '1 day' WHERE sequence = 3", "row 3 has been changed: its col"),
        ("UPDATE gate.audit_log SET hash = sha256('') WHERE sequence = 2", "row 2 has been changed"),
        ("DELETE FROM gate.audit_log WHERE sequence = 2", "row 2 has been removed"),
        ("DELETE FROM gate.audit_log WHERE sequence = 1", "row 1 has been removed"),
        ("INSERT INTO gate.audit_log SELECT 0, at, actor, action, subject, payload, request_id, previous_hash, hash "
         "FROM gate.audit_log WHERE sequence = 1", "row 0 was inserted"),
    ],
)  # fmt: skip
async def test_first_bent_row_is_named(log: DecisionLog, statement: str, message: str) -> None:
    await bend(log, statement)
    with pytest.raises(ChainError, match=message):
        await verify(log)


async def test_row_inserted_in_the_middle_is_named(log: DecisionLog) -> None:
    await bend(
        log,
        "UPDATE gate.audit_log SET sequence = -sequence WHERE sequence >= 3",
        "UPDATE gate.audit_log SET sequence = 1 - sequence WHERE sequence < 0",
        "INSERT INTO gate.audit_log SELECT 3, at, actor, action, subject, payload, request_id, previous_hash, hash "
        "FROM gate.audit_log WHERE sequence = 2",
    )
    with pytest.raises(ChainError, match="row 3 does not follow the row before it"):
        await verify(log)


async def test_cut_tail_is_seen_by_the_head(log: DecisionLog) -> None:
    last = await count(log)
    await bend(log, f"DELETE FROM gate.audit_log WHERE sequence = {last}")
    with pytest.raises(ChainError, match=f"row {last} has been cut off: the head names {last} rows"):
        await verify(log)


async def test_cut_tail_with_a_mended_head_is_seen_by_the_anchor_alone(log: DecisionLog) -> None:
    anchor = await verify(log)
    await bend(
        log,
        f"DELETE FROM gate.audit_log WHERE sequence = {anchor.sequence}",
        "UPDATE gate.audit_head h SET sequence = l.sequence, hash = l.hash "
        f"FROM gate.audit_log l WHERE l.sequence = {anchor.sequence - 1}",
    )
    await verify(log)
    with pytest.raises(ChainError, match=f"row {anchor.sequence} has been cut off: the anchor"):
        await verify(log, anchor)


async def test_chain_written_anew_is_seen_by_the_anchor_alone(log: DecisionLog) -> None:
    anchor = await verify(log)
    last = anchor.sequence
    row = await log.arrange.fetchrow("SELECT * FROM gate.audit_log WHERE sequence = $1", last)
    payload = json.dumps({**json.loads(row["payload"]), "reason": "another one"})
    forged = hashlib.sha256(row["previous_hash"] + payload.encode()).digest()
    await bend(log)
    await log.arrange.execute(
        "UPDATE gate.audit_log SET payload = $1, hash = $2 WHERE sequence = $3", payload, forged, last
    )
    await log.arrange.execute("UPDATE gate.audit_head SET hash = $1", forged)
    await verify(log)
    with pytest.raises(ChainError, match=f"row {last} is not the one that the anchor names"):
        await verify(log, anchor)


async def test_exported_rows_carry_the_chain(log: DecisionLog) -> None:
    async with log.governance("REPEATABLE READ") as connection:
        lines = [json.loads(line) async for line in export_rows(connection)]
        later = [json.loads(line) async for line in export_rows(connection, after=2)]
    previous = b""
    for line in lines:
        assert bytes.fromhex(line["previous_hash"]) == previous
        previous = hashlib.sha256(previous + line["payload"].encode()).digest()
        assert line["hash"] == previous.hex()
    assert lines[2:] == later
    assert previous == (await verify(log)).hash
