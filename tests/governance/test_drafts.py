"""The life of a draft: who may move it, what they sign, and what becomes active."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.changes import (
    ConflictingChangeError,
    ForbiddenChangeError,
    InvalidChangeError,
    StaleChangeError,
)
from app.domain.compiler import compile_policy
from app.governance import drafts, persons, reports
from app.governance.drafts import DraftContent, DraftState
from app.policies import store
from tests.governance.people import (
    APPROVER,
    AUTHOR,
    CHANGE,
    OTHER,
    People,
    approve,
    content,
    document,
    in_review,
    report_on,
)


async def _active(engine: AsyncEngine) -> store.StoredPolicy:
    async with engine.connect() as connection:
        found = await store.active_policy(connection)
    assert found is not None
    return found


async def test_an_approved_draft_is_the_active_policy(governance: AsyncEngine, people: People) -> None:
    draft = await in_review(governance, people)
    assert (draft.state, draft.submitted_by, draft.based_on) == (DraftState.IN_REVIEW, AUTHOR, 1)
    approved = await approve(governance, people, draft)
    assert (approved.state, approved.approved_by, approved.version) == (DraftState.ACTIVE, APPROVER, 2)
    assert (await _active(governance)).summary.digest == draft.digest


async def test_the_draft_before_is_retired(governance: AsyncEngine, people: People) -> None:
    first = await approve(governance, people, await in_review(governance, people, 640))
    await approve(governance, people, await in_review(governance, people, 650))
    async with governance.connect() as connection:
        found = await drafts.find_draft(connection, first.draft_id)
    assert found is not None
    assert found.state is DraftState.RETIRED


async def test_one_person_cannot_publish(governance: AsyncEngine, people: People) -> None:
    async with governance.connect() as connection:
        with pytest.raises(ForbiddenChangeError, match="one person cannot publish"):
            await store.publish(
                connection, compile_policy(document()), expected_active=None, comment=None, change=CHANGE
            )


@pytest.mark.parametrize("person_id", [AUTHOR, "nobody"])
async def test_who_wrote_a_draft_does_not_approve_it(governance: AsyncEngine, people: People, person_id: str) -> None:
    draft = await in_review(governance, people)
    signature = people.sign_approval(draft, OTHER)
    async with governance.connect() as connection:
        with pytest.raises(ForbiddenChangeError):
            await drafts.approve_draft(
                connection,
                draft.draft_id,
                signature=drafts.Signature(person_id=person_id, proof=signature.proof),
                document_digest=draft.digest,
                report_digest=None,
                acknowledged=(),
                comment=None,
                change=CHANGE,
            )


async def test_a_contributor_who_did_not_submit_cannot_approve_either(governance: AsyncEngine, people: People) -> None:
    async with governance.begin() as connection:
        draft = await drafts.create_draft(connection, content(), contributor=OTHER, change=CHANGE)
        signature = people.sign_submission(draft, "0123456789abcdef")
        draft = await drafts.submit_draft(
            connection, draft, signature=signature, nonce="0123456789abcdef", warnings=(), change=CHANGE
        )
    with pytest.raises(ForbiddenChangeError, match="who wrote"):
        await approve(governance, people, draft, OTHER)


async def test_an_approval_needs_every_warning_and_no_other(governance: AsyncEngine, people: People) -> None:
    draft = await in_review(governance, people, warnings=("L07-shadowed", "L05-always-fires"))
    for acknowledged in ((), ("L07-shadowed",), (*draft.warnings, "L08-not-monotone")):
        async with governance.connect() as connection:
            with pytest.raises(InvalidChangeError, match="acknowledges every warning"):
                await drafts.approve_draft(
                    connection,
                    draft.draft_id,
                    signature=people.sign_approval(draft),
                    document_digest=draft.digest,
                    report_digest=None,
                    acknowledged=acknowledged,
                    comment=None,
                    change=CHANGE,
                )
    assert (await approve(governance, people, draft)).acknowledged_warnings == ("L05-always-fires", "L07-shadowed")


async def test_where_a_report_is_required_it_is_one_on_this_draft(
    governance: AsyncEngine, owner: AsyncEngine, people: People
) -> None:
    async with owner.begin() as connection:
        await persons.set_rules(connection, report_required=True, reason="tests", change=CHANGE)
    draft, other = await in_review(governance, people, 640), await in_review(governance, people, 650)
    with pytest.raises(InvalidChangeError, match="what-if report"):
        await approve(governance, people, draft)
    async with governance.begin() as connection:
        strange = await reports.put_report(connection, other, report_on(other), change=CHANGE)
        report = await reports.put_report(connection, draft, report_on(draft), change=CHANGE)
    for given in (strange.report_digest, report.report_digest):
        async with governance.begin() as connection:
            approving = drafts.approve_draft(
                connection,
                draft.draft_id,
                signature=people.sign_approval(draft, report_digest=given),
                document_digest=draft.digest,
                report_digest=given,
                acknowledged=(),
                comment=None,
                change=CHANGE,
            )
            if given == report.report_digest:
                assert (await approving).state is DraftState.ACTIVE
                continue
            with pytest.raises(InvalidChangeError, match="no such report"):
                await approving
            await connection.rollback()


async def test_a_report_that_names_another_document_is_not_stored_with_the_draft(
    governance: AsyncEngine, people: People
) -> None:
    """Else a report on a harmless document would do for the approval of another one."""
    draft, harmless = await in_review(governance, people, 640), await in_review(governance, people, 650)
    for text_of_report in (report_on(harmless), '{"draft":{}}', "[]", "null", "no JSON"):
        async with governance.connect() as connection:
            with pytest.raises(InvalidChangeError):
                await reports.put_report(connection, draft, text_of_report, change=CHANGE)


async def test_a_draft_on_top_of_another_policy_than_the_active_one_is_refused(
    governance: AsyncEngine, people: People
) -> None:
    late = await in_review(governance, people, 650)
    await approve(governance, people, await in_review(governance, people, 640))
    with pytest.raises(StaleChangeError, match="another policy is active"):
        await approve(governance, people, late)


async def test_a_rollback_repeats_a_version_and_takes_the_same_two_persons(
    governance: AsyncEngine, people: People
) -> None:
    await approve(governance, people, await in_review(governance, people))
    async with governance.begin() as connection:
        old = await store.find_policy(connection, 1)
        assert old is not None
        repeating = DraftContent.repeating(old, comment="back", effective_from=None)
        draft = await drafts.create_draft(connection, repeating, contributor=AUTHOR, change=CHANGE)
        nonce = "rollback-nonce-0001"
        draft = await drafts.submit_draft(
            connection,
            draft,
            signature=people.sign_submission(draft, nonce),
            nonce=nonce,
            warnings=(),
            change=CHANGE,
        )
    done = await approve(governance, people, draft)
    assert (done.version, done.repeats_version) == (3, 1)
    assert (await _active(governance)).summary.digest == old.summary.digest


async def test_what_was_rejected_or_withdrawn_cannot_be_approved(governance: AsyncEngine, people: People) -> None:
    for state in (DraftState.REJECTED, DraftState.WITHDRAWN):
        draft = await in_review(governance, people)
        async with governance.begin() as connection:
            await drafts.close_draft(connection, draft.draft_id, state, note="no", change=CHANGE)
        with pytest.raises(ConflictingChangeError):
            await approve(governance, people, draft)


async def test_a_scheduled_draft_waits_for_its_time(governance: AsyncEngine, people: People) -> None:
    at = datetime.now(UTC) + timedelta(hours=1)
    draft = await approve(governance, people, await in_review(governance, people, effective_from=at))
    assert draft.state is DraftState.APPROVED
    async with governance.begin() as connection:
        done = (await connection.execute(text("SELECT * FROM gate.governance_tick()"))).one()
    assert done.activated == 0
    assert (await _active(governance)).version == 1


async def test_every_step_is_a_row_of_the_audit_log(governance: AsyncEngine, people: People) -> None:
    draft = await approve(governance, people, await in_review(governance, people))
    async with governance.connect() as connection:
        rows = await connection.execute(
            text(
                "SELECT action, payload::jsonb ->> 'request_id' FROM gate.audit_log WHERE action LIKE 'draft.%'"
                " ORDER BY sequence"
            )
        )
        found = rows.all()
    assert draft.version == 2
    assert [action for action, _ in found] == ["draft.create", "draft.submit", "draft.approve", "draft.activate"]
    assert {request_id for _, request_id in found} == {"request-1"}
