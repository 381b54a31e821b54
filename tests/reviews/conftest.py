"""A governed service with reviewers who may sign, and applications that need one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx
import pytest

from app.db.changes import Change
from app.db.engine import make_engine
from app.domain.review import approved_subject, proposal_digest, proposal_text, proposed_subject
from app.domain.signing import Statement, prove
from app.governance import persons
from app.governance.persons import PersonRole
from app.governance.signature import new_nonce
from app.identities import keys
from app.identities.principal import Role
from tests.support.cluster import SEEDED_TEMPLATE, Cluster, Database, eventually
from tests.support.service import Service, running_service

CHANGE = Change(actor="tester", request_id="request-1")
REVIEWERS = ("rita", "sam", "tom")


@dataclass(frozen=True)
class Desk:
    """A running service, its reviewers' secrets, and what tests do with both."""

    service: Service
    secrets: dict[str, str]

    @property
    def database(self) -> Database:
        return self.service.database

    def client(self, who: str) -> httpx.AsyncClient:
        return self.service.client(who)

    async def call(self, who: str, method: str, path: str, version: int | None = None, **given: Any) -> httpx.Response:
        """One request; `version` goes into If-Match."""
        headers = {} if version is None else {"If-Match": f'"{version}"'}
        async with self.client(who) as client:
            return await client.request(method, path, headers=headers, **given)

    async def escalated(self, application_id: str, **changes: Any) -> str:
        """The id of a decision that waits for a person: the employment is too short."""
        answer = await self.service.decide(application_id, **({"applicant__employment_months": 1} | changes))
        assert answer.json()["next_action"] == "review", answer.text
        return str(answer.json()["decision_id"])

    async def rejected(self, application_id: str, **changes: Any) -> str:
        answer = await self.service.decide(application_id, **({"bureau__score": 400} | changes))
        assert answer.json()["outcome"] == "reject", answer.text
        return str(answer.json()["decision_id"])

    async def claimed(self, decision_id: str, who: str = "rita") -> dict[str, Any]:
        answer = await self.call(who, "POST", f"/v1/reviews/{decision_id}/claim")
        assert answer.status_code == 200, answer.text
        review: dict[str, Any] = answer.json()
        return review

    async def resolve(
        self, review: dict[str, Any], resolution: str = "accept", who: str = "rita", **more: Any
    ) -> httpx.Response:
        body = {"resolution": resolution, "reason": "looked at the payslips"} | more
        path = f"/v1/reviews/{review['decision_id']}/resolution"
        return await self.call(who, "POST", path, review["version"], json=body)

    async def propose(self, review: dict[str, Any], who: str = "rita", signer: str | None = None) -> httpx.Response:
        """Resolve with the signature of who proposes to accept."""
        nonce, reason = new_nonce(), "looked at the payslips"
        proposal = proposal_text(
            decision_id=review["decision_id"], amount=review["amount"], currency=review["currency"], reason=reason
        )
        statement = Statement(
            act="request",
            subject=proposed_subject(review["decision_id"]),
            nonce=nonce,
            digest=proposal_digest(proposal),
        )
        proof = prove(self.secrets[signer or who], statement).hex()
        return await self.resolve(review, who=who, nonce=nonce, proof=proof)

    async def approve(self, review: dict[str, Any], who: str = "sam", signer: str | None = None) -> httpx.Response:
        statement = Statement(
            act="approve",
            subject=approved_subject(review["decision_id"]),
            nonce=review["nonce"],
            digest=bytes.fromhex(review["proposal_digest"]),
        )
        proof = prove(self.secrets[signer or who], statement).hex()
        body = {"proposal_digest": review["proposal_digest"], "proof": proof}
        path = f"/v1/reviews/{review['decision_id']}/approval"
        return await self.call(who, "POST", path, review["version"], json=body)

    @asynccontextmanager
    async def owner(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(self.database.owner)
        yield connection
        await connection.close()

    async def value(self, query: str, *given: Any) -> Any:
        async with self.owner() as connection:
            return await connection.fetchval(query, *given)


async def staff(database: Database, *, single_person: bool) -> tuple[dict[str, str], dict[str, str]]:
    """Register the reviewers; their API keys and their approval secrets."""
    issued: dict[str, str] = {}
    governance = await asyncpg.connect(database.governance)
    for name in REVIEWERS:
        key = await keys.issue(governance, label=name, roles=(Role.REVIEWER,), person_id=name, change=CHANGE)
        issued[name] = key.text
    await governance.close()
    engine = make_engine(database.owner, pool_size=1)
    async with engine.begin() as connection:
        secrets = {
            name: await persons.add_person(connection, name, name=name, roles=(PersonRole.REVIEWER,), change=CHANGE)
            for name in REVIEWERS
        }
        await persons.set_rules(
            connection, single_person=single_person, report_required=False, reason="tests", change=CHANGE
        )
    await engine.dispose()
    return issued, secrets


@asynccontextmanager
async def running_desk(cluster: Cluster, *, single_person: bool = False) -> AsyncIterator[Desk]:
    database = await cluster.create(SEEDED_TEMPLATE)
    issued, secrets = await staff(database, single_person=single_person)
    async with running_service(database, {**database.keys, **issued}) as service:
        desk = Desk(service, secrets)
        await eventually(lambda: service.app.gate.keeper.latest.revision >= 0)
        yield desk
    await cluster.drop(database)


@pytest.fixture(scope="package")
async def desk(cluster: Cluster) -> AsyncIterator[Desk]:
    """One service for all tests that look at reviews of their own."""
    async with running_desk(cluster) as desk:
        yield desk


@pytest.fixture
async def own_desk(cluster: Cluster) -> AsyncIterator[Desk]:
    """A service with an empty queue."""
    async with running_desk(cluster) as desk:
        yield desk
