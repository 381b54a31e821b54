"""The named list, as a regulator or a partner manager asks for it: who may bring applications, under which agreement.

Source: China 金规〔2025〕9号: no business with a partner off the list. Proposed and not yet valid channels are off it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.channels.registry import RegisteredChannel, channel_of, selection
from app.db.tables import channels, scopes, tier_assignments
from app.domain.canonical import instant_text
from app.domain.channel import ChannelState

COLUMNS = (
    "code",
    "aliases",
    "name",
    "kind",
    "state",
    "agreement_id",
    "services",
    "owner",
    "valid_from",
    "valid_to",
    "tier",
)
LIST_SEPARATOR = " | "

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What makes a spreadsheet take a cell for a formula (OWASP, CSV injection), in its full-width forms as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedChannel:
    """A channel on the list. `tier` is the one assigned for every product and jurisdiction; None: by default."""

    channel: RegisteredChannel
    tier: str | None


async def read_named_list(connection: AsyncConnection, *, at: datetime) -> tuple[ListedChannel, ...]:
    """Every channel that is on the list at `at`, in the order of the codes; those that left it are shown as exited."""
    assigned = (
        select(tier_assignments.c.tier)
        .join(scopes, scopes.c.scope_id == tier_assignments.c.scope_id)
        .where(
            and_(
                scopes.c.channel_id == channels.c.channel_id,
                scopes.c.product.is_(None),
                scopes.c.jurisdiction.is_(None),
                func.lower(tier_assignments.c.valid) <= at,
                func.coalesce(func.upper(tier_assignments.c.valid) > at, True),
            )
        )
        .scalar_subquery()
    )
    query = (
        selection()
        .add_columns(assigned.label("tier"))
        .where(channels.c.state != ChannelState.PROPOSED.value, channels.c.valid_from <= at)
        .order_by(channels.c.code)
    )
    rows = (await connection.execute(query)).mappings()
    return tuple(ListedChannel(channel=channel_of(row), tier=row["tier"]) for row in rows)


def named_list_csv(listed: Iterable[ListedChannel], *, default_tier: str | None) -> str:
    """The list as CSV (RFC 4180) with a header row. No cell can be taken for a formula by a spreadsheet."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for entry in listed:
        channel = entry.channel
        cells = (
            channel.code,
            LIST_SEPARATOR.join(channel.aliases),
            channel.name,
            channel.kind.value,
            channel.state.value,
            channel.agreement_id or "",
            LIST_SEPARATOR.join(channel.services),
            channel.owner,
            instant_text(channel.valid_from),
            "" if channel.valid_to is None else instant_text(channel.valid_to),
            entry.tier or default_tier or "",
        )
        writer.writerow([safe_cell(cell) for cell in cells])
    return text.getvalue()


def safe_cell(value: str) -> str:
    """The text, with an apostrophe before it where a spreadsheet would compute it."""
    return f"'{value}" if value.lstrip(" ").startswith(_FORMULA_STARTS) else value
