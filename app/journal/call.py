"""How rows travel into `gate.journal_flush`: one JSON text for the scalar columns, one value for all bytes.

A driver that encodes an array for each of 29 columns spends five times as long on a row (docs/decisions/0003).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain
from operator import itemgetter

import orjson

from app.journal.entry import JournalEntry

FLUSH_FUNCTION = "gate.journal_flush(json, bytea, integer[], bigint[], bigint[])"
"""Its signature: a service that finds another one in its database would never get a decision stored."""
FLUSH_SQL = (
    "SELECT row_number, status, response "
    "FROM gate.journal_flush($1::json, $2::bytea, $3::int[], $4::int8[], $5::int8[])"
)
"""Takes `flush_arguments`; gives the rows that were not simply written."""

_BYTES = ("fingerprint", "content_digest", "input", "record", "response")
"""The byte columns, in the order in which a row's lie behind one another; the first two have a fixed length."""
SCALARS = tuple(name for name in JournalEntry._fields if name not in {*_BYTES, "budget_lines"})
"""The columns that travel as JSON; a test holds the function to them."""

_scalars = itemgetter(*(JournalEntry._fields.index(name) for name in SCALARS))
_bytes = itemgetter(*(JournalEntry._fields.index(name) for name in _BYTES))


def flush_arguments(entries: Sequence[JournalEntry]) -> tuple[object, ...]:
    """The arguments of `FLUSH_SQL` for these rows, of which there is at least one.

    Instants travel as RFC 3339 text with microseconds, ids as text: both are exact.
    """
    columns: dict[str, object] = dict(zip(SCALARS, zip(*map(_scalars, entries), strict=True), strict=True))
    parts = [_bytes(entry) for entry in entries]
    sizes = [sum(map(len, row)) for row in parts]
    columns["bytes_at"] = [end - size for end, size in zip(accumulate(sizes), sizes, strict=True)]
    for name, column in zip(_BYTES[2:], list(zip(*parts, strict=True))[2:], strict=True):
        columns[f"{name}_bytes"] = list(map(len, column))
    lines = [(row, *line) for row, entry in enumerate(entries, 1) for line in entry.budget_lines]
    budgets = map(list, zip(*lines, strict=True)) if lines else ([], [], [])
    return orjson.dumps(columns).decode(), b"".join(chain.from_iterable(parts)), *budgets
