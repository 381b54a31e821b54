"""The audit log as evidence: walking its hash chain, and handing it out.

A chain cannot see that its tail was cut. So its head (how many rows, which hash) is kept outside the database as an
anchor, and a later walk must come past it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.tables import audit_head, audit_log

_ROWS_AT_ONCE = 1_000


class ChainError(Exception):
    """The audit log is not what was written. The text names the first row that shows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A head of the chain: how many rows it had, and the hash of the last one."""

    sequence: int
    hash: bytes

    def to_json(self) -> str:
        """What an anchor file holds."""
        return json.dumps({"sequence": self.sequence, "hash": self.hash.hex()})

    @classmethod
    def from_json(cls, document: str) -> Anchor:
        """Read an anchor file.

        Raises:
            ValueError: where it is none.
        """
        try:
            read = json.loads(document)
            return cls(sequence=int(read["sequence"]), hash=bytes.fromhex(read["hash"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError('an anchor is {"sequence": number, "hash": "hex"}') from error


async def verify_chain(connection: AsyncConnection, anchor: Anchor | None = None) -> Anchor:
    """Walk the whole chain and return its head. The connection's transaction must be REPEATABLE READ, since it grows.

    Raises:
        ChainError: names the first row that was changed, removed, inserted, or cut off.
    """
    head = (await connection.execute(select(audit_head.c.sequence, audit_head.c.hash))).one_or_none()
    if head is None:
        raise ChainError("the head of the audit log is gone")
    last = Anchor(sequence=0, hash=b"")
    async for row in _rows(connection):
        _follow(row, last)
        last = Anchor(sequence=row.sequence, hash=row.hash)
        if anchor is not None and anchor.sequence == last.sequence and anchor.hash != last.hash:
            raise ChainError(f"row {last.sequence} is not the one that the anchor names: the log was written anew")
    if last.sequence < head.sequence:
        raise ChainError(f"row {last.sequence + 1} has been cut off: the head names {head.sequence} rows")
    if last.sequence > head.sequence:
        raise ChainError(f"row {head.sequence + 1} was inserted past the head")
    if last.hash != head.hash:
        raise ChainError(f"row {last.sequence} is not the one that the head names")
    if anchor is not None and last.sequence < anchor.sequence:
        raise ChainError(f"row {last.sequence + 1} has been cut off: the anchor names {anchor.sequence} rows")
    return last


async def export_rows(connection: AsyncConnection, *, after: int = 0) -> AsyncIterator[str]:
    """Every row after `after` as one JSON object; `payload` is the text that was hashed."""
    async for row in _rows(connection, after=after):
        yield json.dumps(
            {
                "sequence": row.sequence,
                "payload": row.payload,
                "previous_hash": row.previous_hash.hex(),
                "hash": row.hash.hex(),
            },
            ensure_ascii=False,
        )


def _follow(row: Any, last: Anchor) -> None:
    """Whether `row` is what was written after `last`."""
    expected = last.sequence + 1
    if row.sequence < expected:
        raise ChainError(f"row {row.sequence} was inserted before the first")
    if row.sequence > expected:
        raise ChainError(f"row {expected} has been removed")
    if row.previous_hash != last.hash:
        raise ChainError(f"row {expected} does not follow the row before it")
    if hashlib.sha256(row.previous_hash + row.payload.encode()).digest() != row.hash:
        raise ChainError(f"row {expected} has been changed")
    said = json.loads(row.payload)
    columns = {
        "sequence": row.sequence,
        "at": f"{row.at:%Y-%m-%dT%H:%M:%S.%f}Z",
        "actor": row.actor,
        "action": row.action,
        "subject": row.subject,
        "request_id": row.request_id,
    }
    if any(said.get(name) != value for name, value in columns.items()):
        raise ChainError(f"row {expected} has been changed: its columns are not those of its payload")


async def _rows(connection: AsyncConnection, *, after: int | None = None) -> AsyncIterator[Any]:
    query = select(audit_log).order_by(audit_log.c.sequence)
    if after is not None:
        query = query.where(audit_log.c.sequence > after)
    async with connection.stream(query, execution_options={"yield_per": _ROWS_AT_ONCE}) as result:
        async for row in result:
            yield row
