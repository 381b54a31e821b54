"""Applicant data in good requests, bad ones and database errors: no log, no metric and no problem holds it.

What is only wrong about a request is in `test_problems_served.py`. Here the data gets as far as the database, whose own
errors quote rows: to the service, and into its own log.
"""

from __future__ import annotations

import json
import re
from itertools import count
from typing import Any

import asyncpg
import httpx
import pytest

from app.policies.defaults import default_policy
from tests.support.applications import application
from tests.support.cluster import ROLES, Cluster, eventually
from tests.support.server import Server

pytestmark = pytest.mark.xdist_group("edge")

REFERENCE, SOURCE, PURPOSE = "p-zhangwei13800138000", "quelle-李四", "new kitchen 厨房"
BAND, EMPLOYER, BORN = "AA-4711", "Acme-77", "1987-03-29"
INCOME, DEBT, AMOUNT = 1_987_653, 1_312_347, 4_831_379
_PIECES = (
    *("zhangwei13800138000", "quelle-", "李四", r"\u674e", "kitchen", "厨房", BAND, EMPLOYER, BORN),
    *(str(number) for number in (INCOME, DEBT, AMOUNT)),
    *(text.encode().hex() for text in (REFERENCE, "李四", BORN, str(INCOME))),  # as bytes are shown
)
_TRACES = re.compile("|".join(re.escape(piece) for piece in _PIECES))


def planted(application_id: str, **changes: Any) -> dict[str, Any]:
    """An application whose every value of the person can be told again anywhere."""
    body = application(
        application_id,
        amount=AMOUNT,
        sub_id=SOURCE,
        purpose=PURPOSE,
        applicant={
            "applicant_ref": REFERENCE,
            "birth_date": BORN,
            "monthly_income": INCOME,
            "monthly_obligations": DEBT,
        },
        bureau={"score_band": BAND},
        attributes={"employer": EMPLOYER},
    )
    return body | changes


def _around(text: str) -> list[str]:
    """Where data stands in a text, with the line before it."""
    return [text[max(0, found.start() - 300) : found.end() + 60] for found in _TRACES.finditer(text)]


async def _declare_employer(server: Server) -> None:
    policy: dict[str, Any] = default_policy()
    policy["attributes"] = [{"name": "employer", "kind": "text"}]
    published = await server.client("admin").post("/v1/policies", params={"wait": 10}, json=policy)
    assert published.status_code == 200, published.text


@pytest.fixture
async def server(gate_server: Server) -> Server:
    await _declare_employer(gate_server)
    return gate_server


async def test_no_log_metric_or_problem_holds_what_was_sent(server: Server, cluster: Cluster) -> None:
    client, analyst = server.client(), server.client("analyst")
    problems: list[httpx.Response] = []

    good = [await client.post("/v1/decisions", json=planted(f"good-{n}")) for n in range(3)]
    assert {answer.status_code for answer in good} == {200}
    read = await analyst.get(f"/v1/decisions/{good[0].json()['decision_id']}")
    assert _TRACES.search(read.text), "who may see it does, or this test would find nothing anywhere"

    bad: list[Any] = [
        planted("bad-1", channel_code="nowhere"),
        planted("bad-2", consent_at=None),
        planted("bad-3", currency="USD"),
        planted("bad-4", attributes={"employer": EMPLOYER, EMPLOYER: PURPOSE}),
        planted("bad-5", unknown={"bureau.score": "not_found", REFERENCE: "not_found"}),
        planted("bad-6", applicant={REFERENCE: BORN}),
        planted("bad-7", **{REFERENCE: REFERENCE}),
        planted("good-0", product="small_business"),
        [planted("bad-8")],
    ]
    problems += [await client.post("/v1/decisions", json=body) for body in bad]
    problems.append(await client.post("/v1/decisions", content=json.dumps(planted("bad-9")).encode()[:-2]))
    problems.append(
        await client.post("/v1/decisions/batch", content=b"\n".join(json.dumps(body).encode() for body in bad))
    )
    for text in (REFERENCE, SOURCE, BORN):
        problems += [
            await analyst.get(f"/v1/decisions/{text}"),
            await analyst.get("/v1/decisions", params={"channel": text, "cursor": text, text: text}),
            await analyst.get(f"/v1/applications/{text}/revisions/1/decision", params={"originator": text}),
            await client.get(f"/{text}"),
        ]

    # The database refuses a row, refuses the whole flush, and is too slow for it.
    superuser = await asyncpg.connect(server.database.superuser)
    flush = await superuser.fetchval("SELECT 'gate.journal_flush'::regproc::regprocedure::text")
    number = count()

    async def recovered() -> bool:
        return (await client.post("/v1/decisions", json=planted(f"after-{next(number)}"))).status_code == 200

    try:
        for application_id, slug, breakage, mending in (
            (
                "poison-1",
                "unstorable",
                "ALTER TABLE gate.decisions ADD CONSTRAINT planted CHECK (application_id !~ '^poison') NOT VALID",
                "ALTER TABLE gate.decisions DROP CONSTRAINT planted",
            ),
            (
                "denied-1",
                "log-unavailable",
                f"REVOKE EXECUTE ON FUNCTION {flush} FROM {ROLES.serving}",
                f"GRANT EXECUTE ON FUNCTION {flush} TO {ROLES.serving}",
            ),
            ("locked-1", "log-unavailable", "BEGIN; LOCK TABLE gate.decisions IN ACCESS EXCLUSIVE MODE", "ROLLBACK"),
        ):
            await superuser.execute(breakage)
            problems.append(await client.post("/v1/decisions", json=planted(application_id)))
            await superuser.execute(mending)
            assert problems[-1].json()["type"] == f"urn:channel-gate:problem:{slug}"
            await eventually(recovered, timeout_seconds=30)
    finally:
        await superuser.close()

    for problem in problems:
        assert problem.status_code >= 400 or "batch" in str(problem.request.url), problem.text
        assert not _around(problem.text)
    metrics = await server.client(None).get("/metrics")
    assert "gate_poison_total 1.0" in metrics.text
    assert not _around(metrics.text)
    assert "decision_quarantined" in server.log
    assert server.log.count('"event":"flush_failed"') == 2
    assert not _around(server.log)
    database_log = cluster.log
    for complaint in ('violates check constraint "planted"', "permission denied for function journal_flush"):
        assert complaint in database_log, "the database did write something down"
    assert not _around(database_log)
