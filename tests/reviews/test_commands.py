"""The commands, and what docs/reviews.md says to type."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli import build_app
from tests.reviews.conftest import Desk
from tests.support.cluster import in_thread

pytestmark = pytest.mark.xdist_group("reviews")

GUIDE = (Path(__file__).parents[2] / "docs" / "reviews.md").read_text(encoding="utf-8")


async def run(desk: Desk, *words: str, signer: str | None = None, code: int = 0) -> list[Any]:
    """The JSON lines that a command prints, or the text of one that is refused."""
    environment: dict[str, str | None] = dict(desk.database.environment())
    if signer is not None:
        environment["APPROVAL_SECRET"] = desk.secrets[signer]
    result = await asyncio.to_thread(CliRunner().invoke, build_app(), ["reviews", *words], env=environment)
    if code:
        assert result.exit_code == code or result.exception is not None, result.output
        return [str(result.exception)]
    assert result.exception is None, result.output
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]


async def test_two_persons_accept_on_the_command_line(own_desk: Desk) -> None:
    decision_id = await own_desk.escalated("cli-1", amount=19_000_000)
    [stats] = await run(own_desk, "stats")
    assert stats["open"]["fresh"] == 1
    [listed] = await run(own_desk, "list", "--age", "fresh")
    assert (listed["decision_id"], listed["two_persons"]) == (decision_id, True)
    await run(own_desk, "claim", decision_id, "--person", "rita")
    accept = ("resolve", decision_id, "accept", "--person", "rita", "--reason", "seen")
    [proposed] = await run(own_desk, *accept, signer="rita")
    approve = ("approve", decision_id, "--proposal", proposed["proposal_digest"], "--person")
    assert "does not approve" in (await run(own_desk, *approve, "rita", signer="rita", code=1))[0]
    [accepted] = await run(own_desk, *approve, "sam", signer="sam")
    assert accepted["state"] == "accepted"
    assert await own_desk.value("SELECT count(*) FROM gate.reservations WHERE state = 'reserved'") == 1
    assert await run(own_desk, "list") == []


async def test_a_claim_is_given_back_and_the_log_is_read_again(own_desk: Desk) -> None:
    decision_id = await own_desk.escalated("cli-2")
    await run(own_desk, "claim", decision_id, "--person", "rita", "--minutes", "5")
    [released] = await run(own_desk, "release", decision_id, "--person", "rita")
    assert released["holder"] is None
    async with own_desk.owner() as owner:
        await owner.execute("DELETE FROM gate.review_intake")
        await owner.execute("INSERT INTO gate.review_intake (complete_to) VALUES ('infinity')")
    assert await run(own_desk, "gather", "--all") == []
    assert len(await run(own_desk, "list")) == 1


def test_the_guide_names_commands_that_exist() -> None:
    named = set(re.findall(r"^channel-gate reviews ([a-z]+)", GUIDE, re.MULTILINE))
    help_text = in_thread(lambda: CliRunner().invoke(build_app(), ["reviews", "--help"]).stdout)
    assert named
    assert all(name in help_text for name in named)
