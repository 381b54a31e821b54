"""Who may call what: every operation with the key of every role, held against the table of docs/security.md.

The operations are those of the code, so a new one fails here until it has its row in the table.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from app.cli.demo_data import ORIGINATOR
from app.db.changes import Change
from app.identities import keys
from app.identities.principal import ORIGINATOR_ROLES, Role
from tests.api.openapi import operations
from tests.support.cluster import SEEDED_TEMPLATE, Cluster
from tests.support.service import Service, running_service

pytestmark = pytest.mark.xdist_group("authorisation")

ROOT = Path(__file__).parents[2]
ROLES = [role.value for role in Role]
_ROW = re.compile(r"^\| `(?P<operation>[A-Z]+ /[^`]*)` \|(?P<cells>.*)\|$", re.MULTILINE)
_PUBLIC = "anyone"
PUBLIC = {"GET /livez", "GET /readyz", "GET /metrics"}
_VALUES = {"uuid": "00000000-0000-7000-8000-000000000000", "integer": "999999"}


@pytest.fixture(scope="module")
async def gate(cluster: Cluster) -> AsyncIterator[Service]:
    """A service that knows a key of each role, and of no other at the same time."""
    database = await cluster.create(SEEDED_TEMPLATE)
    connection = await asyncpg.connect(database.governance)
    issued = {
        role.value: await keys.issue(
            connection,
            label=f"{role.value} alone",
            roles=[role],
            originator_code=ORIGINATOR if role in ORIGINATOR_ROLES else None,
            person_id=None if role in ORIGINATOR_ROLES else f"person of {role.value}",
            rate_limit_per_second=10_000,
            change=Change(actor="test", request_id="one-role-each"),
        )
        for role in Role
    }
    await connection.close()
    async with running_service(database, {role: key.text for role, key in issued.items()}) as service:
        yield service
    await cluster.drop(database)


def documented() -> dict[str, list[str]]:
    """The table: who may call each operation, in the order of the columns."""
    text = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    return {
        row["operation"]: _callers([cell.strip() for cell in row["cells"].split("|")]) for row in _ROW.finditer(text)
    }


def _callers(cells: list[str]) -> list[str]:
    return [_PUBLIC] if cells[0] == _PUBLIC else [role for role, cell in zip(ROLES, cells, strict=True) if cell == "x"]


def row(operation: str, callers: list[str]) -> str:
    """A row of the table, for who has to write it."""
    cells = [_PUBLIC, *[""] * 6] if callers == [_PUBLIC] else ["x" if role in callers else "" for role in ROLES]
    return f"| `{operation}` | {' | '.join(cells)} |"


def request(method: str, path: str, operation: dict[str, Any]) -> dict[str, Any]:
    """A request that names nothing that exists and asks for nothing that could be done."""
    headers = {}
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "path":
            schema = parameter["schema"].get("anyOf", [parameter["schema"]])[0]
            value = _VALUES.get(schema.get("format", schema["type"]), "none-such")
            path = path.replace(f"{{{parameter['name']}}}", value)
        elif parameter["in"] == "header" and parameter.get("required"):
            headers[parameter["name"]] = '"none"'
    body: dict[str, Any] = {} if method == "GET" else {"json": {}}
    return {"method": method, "url": path, "headers": headers, **body}


def lacks_the_role(answer: httpx.Response) -> bool:
    return answer.status_code == 403 and "insufficient_scope" in answer.headers.get("www-authenticate", "")


def test_every_operation_has_its_row() -> None:
    served, rows = {f"{method} {path}" for method, path, _ in operations()}, documented().keys()
    assert rows - served == set(), "the table of docs/security.md has operations that are not there"
    assert served - rows == set(), "docs/security.md does not say who may call these"


async def test_each_operation_is_open_to_the_roles_of_its_row_and_to_nobody_else(gate: Service) -> None:
    found: dict[str, str] = {}
    for method, path, operation in operations():
        name, asked = f"{method} {path}", request(method, path, operation)
        async with gate.client(None) as stranger:
            answer = await stranger.request(**asked)
        if answer.status_code == 401:
            callers = []
            for role in ROLES:
                async with gate.client(role) as client:
                    answer = await client.request(**asked)
                assert answer.status_code not in {401, 429, 500, 503}, (name, role, answer.text)
                if not lacks_the_role(answer):
                    callers.append(role)
        else:
            assert answer.status_code < 400, (name, answer.text)
            callers = [_PUBLIC]
        found[name] = row(name, callers)
    assert found == {name: row(name, callers) for name, callers in documented().items()}


async def test_a_key_that_is_not_one_opens_nothing(gate: Service) -> None:
    for credential in ("Bearer cgk_none_" + "a" * 43, "Bearer x.y.z", "Basic YWRtaW46YWRtaW4=", "Bearer"):
        for method, path, operation in operations():
            asked = request(method, path, operation)
            asked["headers"]["Authorization"] = credential
            async with gate.client(None) as stranger:
                answer = await stranger.request(**asked)
            public = f"{method} {path}" in PUBLIC
            assert answer.status_code < 400 if public else answer.status_code == 401, (method, path, credential)
