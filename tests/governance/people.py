"""Persons of the tests, what they sign, and drafts to sign for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.changes import Change
from app.db.engine import make_engine
from app.domain.compiler import compile_policy
from app.domain.signing import Statement, prove
from app.governance import drafts, persons
from app.governance.drafts import Draft, DraftContent
from app.governance.persons import PersonRole
from app.governance.signature import Signature, new_nonce
from app.policies import store
from app.policies.defaults import default_policy
from tests.support.cluster import Database

CHANGE = Change(actor="tester", request_id="request-1")
AUTHOR, APPROVER, OTHER = "ada", "ben", "cleo"
ROLES = {
    AUTHOR: (PersonRole.POLICY_AUTHOR, PersonRole.ADMIN),
    APPROVER: (PersonRole.POLICY_APPROVER, PersonRole.ADMIN),
    OTHER: (PersonRole.POLICY_AUTHOR, PersonRole.POLICY_APPROVER, PersonRole.ADMIN),
}


@dataclass(frozen=True, slots=True)
class People:
    """Who may sign, with their secrets, on a database where one person alone changes nothing."""

    secrets: dict[str, str]

    def sign(self, person_id: str, statement: Statement) -> Signature:
        return Signature(person_id=person_id, proof=prove(self.secrets[person_id], statement))

    def sign_submission(self, draft: Draft, nonce: str, person_id: str = AUTHOR) -> Signature:
        return self.sign(
            person_id,
            Statement(act="submit", subject="policy", nonce=nonce, digest=draft.digest, moment=draft.effective_from),
        )

    def sign_approval(self, draft: Draft, person_id: str = APPROVER, report_digest: bytes | None = None) -> Signature:
        return self.sign(
            person_id,
            Statement(
                act="approve",
                subject=f"draft/{draft.draft_id}",
                nonce=draft.nonce or "",
                digest=draft.digest,
                report_digest=report_digest,
                moment=draft.effective_from,
                warnings=draft.warnings,
            ),
        )


async def govern(database: Database, *, report_required: bool = False) -> People:
    """Register the persons and publish the default policy; then let no one person change anything alone."""
    governance = make_engine(database.governance, pool_size=1)
    owner = make_engine(database.owner, pool_size=1)
    try:
        async with governance.begin() as connection:
            await store.publish(
                connection, compile_policy(default_policy()), expected_active=None, comment=None, change=CHANGE
            )
        async with owner.begin() as connection:
            secrets = {
                person_id: await persons.add_person(connection, person_id, name=person_id, roles=roles, change=CHANGE)
                for person_id, roles in ROLES.items()
            }
            await persons.set_rules(
                connection, single_person=False, report_required=report_required, reason="tests", change=CHANGE
            )
    finally:
        await governance.dispose()
        await owner.dispose()
    return People(secrets)


def document(score: int = 640) -> dict[str, Any]:
    """The default policy with another threshold of BU03 for the tier general."""
    changed = default_policy()
    next(rule for rule in changed["rules"] if rule["code"] == "BU03")["thresholds"]["general"] = score
    return changed


def content(score: int = 640, effective_from: datetime | None = None) -> DraftContent:
    return DraftContent.of(compile_policy(document(score)), comment="why", effective_from=effective_from)


async def in_review(
    engine: AsyncEngine,
    people: People,
    score: int = 640,
    *,
    effective_from: datetime | None = None,
    warnings: tuple[str, ...] = (),
) -> Draft:
    """A draft that its author has submitted."""
    async with engine.begin() as connection:
        draft = await drafts.create_draft(connection, content(score, effective_from), contributor=AUTHOR, change=CHANGE)
        nonce = new_nonce()
        return await drafts.submit_draft(
            connection,
            draft,
            signature=people.sign_submission(draft, nonce),
            nonce=nonce,
            warnings=warnings,
            change=CHANGE,
        )


def report_on(draft: Draft) -> str:
    """The least that the database asks of a report: that it names the document it is on."""
    return json.dumps({"draft": {"digest": draft.digest.hex()}})


async def approve(engine: AsyncEngine, people: People, draft: Draft, person_id: str = APPROVER) -> Draft:
    async with engine.begin() as connection:
        return await drafts.approve_draft(
            connection,
            draft.draft_id,
            signature=people.sign_approval(draft, person_id),
            document_digest=draft.digest,
            report_digest=None,
            acknowledged=draft.warnings,
            comment="seen",
            change=CHANGE,
        )
