"""Which fields the applications of late carried: what lint holds a policy's rules against."""

from __future__ import annotations

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.lint_findings import FieldUsage

USAGE_DAYS = 30
_PER_DAY = 500
"""Of each day, at most so many applications are read: evenly over the days, and never more than 15,000 in all."""

_SAMPLE = text(
    """
    SELECT s.input
    FROM generate_series(0, :days - 1) AS ago(days),
         LATERAL (SELECT d.input FROM gate.decisions d
                  WHERE d.decided_at >= now() - make_interval(days => ago.days + 1)
                    AND d.decided_at < now() - make_interval(days => ago.days)
                    AND d.input IS NOT NULL
                  LIMIT :per_day) AS s
    """
)
_NOT_FIELDS = frozenset({"unknown"})


async def field_usage(connection: AsyncConnection, *, days: int = USAGE_DAYS) -> FieldUsage:
    """How many sampled applications of the last `days` carried each field, by its path. Needs a transaction to read in.

    What a person's erasure blanked is not counted.
    """
    applications = 0
    carried: dict[str, int] = {}
    async with connection.stream(_SAMPLE, {"days": days, "per_day": _PER_DAY}) as rows:
        async for (stored,) in rows:
            applications += 1
            for path in _paths(orjson.loads(stored)):
                carried[path] = carried.get(path, 0) + 1
    return FieldUsage(applications=applications, days=days, carried=carried)


def _paths(document: dict[str, object]) -> list[str]:
    """The fields that a stored request carries; nulls were left out when it was stored."""
    paths = []
    for name, value in document.items():
        if name in _NOT_FIELDS:
            continue
        if isinstance(value, dict):
            paths += [f"{name}.{inner}" for inner in value]
        else:
            paths.append(name)
    return paths
