"""What the README and `docs/api.md` send on the first day is answered as they say."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app.cli.demo_data import write_application
from tests.support.cluster import Database
from tests.support.service import Service, running_service

_ROOT = Path(__file__).parents[2]
_EDITS = re.compile(r"^sed ('[^\n]*') \.var/demo-application\.json \|$", re.MULTILINE)


@pytest.fixture
async def service(seeded_database: Database) -> AsyncIterator[Service]:
    async with running_service(seeded_database) as running:
        yield running


def _edits(page: str) -> list[str]:
    """The scripts that turn the demo's application into what a page sends, in order."""
    return [shlex.split(found)[0] for found in _EDITS.findall((_ROOT / page).read_text(encoding="utf-8"))]


def _shown_answer() -> dict[str, Any]:
    """The decision that the README prints."""
    page = (_ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"^```json\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert found is not None
    answer: dict[str, Any] = json.loads(found[1])
    return answer


def _edited(file: Path, script: str) -> bytes:
    return subprocess.run(["sed", script, str(file)], capture_output=True, check=True).stdout


async def test_the_pages_get_the_answers_that_they_show(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "demo-application.json"
    write_application(file, now=datetime.now(UTC))

    async def send(script: str) -> dict[str, Any]:
        async with service.client("origination") as client:
            answer = await client.post("/v1/decisions", content=_edited(file, script))
        assert answer.status_code == 200, answer.text
        decision: dict[str, Any] = answer.json()
        return decision

    shown = _shown_answer()
    decided = await send("")
    assert decided.keys() == shown.keys()
    own = {"decision_id", "decided_at"}
    assert {name: value for name, value in decided.items() if name not in own} == {
        name: value for name, value in shown.items() if name not in own
    }
    (more,) = _edits("README.md")
    assert (await send(more))["next_action"] == "counter_offer"
    first, amended = _edits("docs/api.md")
    offered = await send(first)
    assert (offered["next_action"], offered["counter_offer"]["amount"]) == ("counter_offer", 3_000_000)
    taken = await send(amended)
    assert (taken["outcome"], taken["revision"]) == ("accept", 2)
