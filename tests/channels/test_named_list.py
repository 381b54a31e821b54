"""The named list: who is on it, and a CSV that no spreadsheet computes."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.channels import registry, tiers
from app.channels.named_list import COLUMNS, named_list_csv, read_named_list, safe_cell
from app.domain.channel import ChannelState
from tests.channels.builders import CHANGE, LAUNCH, register

NOW = datetime.now(UTC)


async def test_proposed_and_future_channels_are_off_the_list(governance: AsyncEngine, serving: AsyncEngine) -> None:
    await register(governance, "active")
    await register(governance, "proposed", state=ChannelState.PROPOSED)
    await register(governance, "future", valid_from=NOW + timedelta(days=1))
    await register(governance, "suspended", state=ChannelState.SUSPENDED)
    async with serving.connect() as connection:
        listed = await read_named_list(connection, at=NOW)
        assert [entry.channel.code for entry in listed] == ["active", "suspended"]
        assert all(entry.channel.valid_from <= NOW for entry in listed)
        tomorrow = await read_named_list(connection, at=NOW + timedelta(days=1))
    assert [entry.channel.code for entry in tomorrow] == ["active", "future", "suspended"]


async def test_the_csv_shows_aliases_services_dates_and_the_present_tier(governance: AsyncEngine) -> None:
    await register(governance, "web", services=("ads", "leads"), agreement_id="A-1", valid_to=NOW + timedelta(days=9))
    await register(governance, "app")
    async with governance.begin() as connection:
        for alias in ("z-tag", "a-tag"):
            await registry.put_alias(connection, "web", alias, change=CHANGE)
        for scope, tier in ((tiers.Scope(), "prime"), (tiers.Scope(product="p"), "risk")):
            await tiers.assign(
                connection,
                "web",
                scope,
                tier=tier,
                valid_from=LAUNCH,
                valid_to=None,
                cause=tiers.Cause.INITIAL,
                reason="test",
                change=CHANGE,
            )
        listed = await read_named_list(connection, at=NOW)
    rows = list(csv.DictReader(io.StringIO(named_list_csv(listed, default_tier="general"))))
    assert tuple(rows[0]) == COLUMNS
    assert [row["code"] for row in rows] == ["app", "web"]
    assert [row["tier"] for row in rows] == ["general", "prime"]
    assert (rows[1]["aliases"], rows[1]["services"], rows[1]["agreement_id"]) == ("a-tag | z-tag", "ads | leads", "A-1")
    assert rows[1]["valid_from"] == "2026-01-01T00:00:00.000000Z"
    assert rows[0]["valid_to"] == ""


HOSTILE = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "＋1", "－1", "＠A", "  =1"]


async def test_no_cell_is_taken_for_a_formula(governance: AsyncEngine) -> None:
    for number, text in enumerate(HOSTILE):
        await register(governance, f"c{number:02}", owner=text, name=text, agreement_id=text, services=(text,))
    async with governance.connect() as connection:
        listed = await read_named_list(connection, at=NOW)
    rows = csv.DictReader(io.StringIO(named_list_csv(listed, default_tier=None), newline=""))
    for row, text in zip(rows, HOSTILE, strict=True):
        for column in ("owner", "name", "agreement_id", "services"):
            assert row[column] == f"'{text}"


@pytest.mark.parametrize("harmless", ["", "web", "A-1", "网 Web", "3.14", "a=b"])
def test_an_ordinary_cell_stays_as_it_is(harmless: str) -> None:
    assert safe_cell(harmless) == harmless
