"""Approving one's own draft by every route, as the two logins of the service. Nothing here runs as a superuser.

The attacker holds both logins and the author's secret, sees every signature that passes, and has no approver's secret.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from hashlib import sha256

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.engine import make_engine
from app.domain.signing import Act, Statement, prove
from app.governance.drafts import Draft
from tests.governance.people import APPROVER, AUTHOR, OTHER, People, approve, govern, in_review, report_on
from tests.support.cluster import Cluster, Database

DENIED = asyncpg.InsufficientPrivilegeError
APPROVE = "SELECT * FROM gate.draft_approve($1, $2, $3, NULL, '{}', 'x', $4, 'attacker', NULL)"

both_logins = pytest.mark.parametrize("login", ["serving", "governance"])


@pytest.fixture
async def draft(governance: AsyncEngine, people: People) -> Draft:
    return await in_review(governance, people)


@pytest.fixture(scope="module")
async def governed(cluster: Cluster) -> AsyncIterator[Database]:
    """A governed database with a draft in review, for attacks that are refused whole: none leaves it another."""
    database = await cluster.create()
    people = await govern(database)
    engine = make_engine(database.governance, pool_size=2)
    await in_review(engine, people)
    await engine.dispose()
    yield database
    await cluster.drop(database)


@pytest.fixture
async def attacker(database: Database, draft: Draft) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.governance)
    yield connection
    await connection.close()
    check = await asyncpg.connect(database.owner)
    try:
        assert await check.fetchval("SELECT policy_version FROM gate.state") == 1, "the attack changed the policy"
    finally:
        await check.close()


@both_logins
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE gate.policy_drafts SET state = 'approved', approved_by = 'ben'",
        "UPDATE gate.policy_drafts SET document = '{}'",
        "INSERT INTO gate.signatures (person_id, act, subject, message, proof_hash) VALUES ('ben','a','x','x','x')",
        "UPDATE gate.persons SET roles = ARRAY['policy-approver'] WHERE person_id = 'ada'",
        "INSERT INTO gate.persons (person_id, name, roles) VALUES ('eve', 'eve', ARRAY['policy-approver'])",
        "UPDATE gate.person_secrets SET stored_key = sha256('x')",
        "UPDATE gate.governance SET single_person = true",
        "UPDATE gate.change_kinds SET carried_out_by = 'policy_put_active'",
        "INSERT INTO gate.policy_activations (version, activated_at, activated_by, revision) VALUES (1, now(), 'x', 1)",
        "UPDATE gate.state SET policy_version = 9",
        "SELECT setval('gate.person_failures_1', 0)",
    ],
)
async def test_no_table_is_written_directly(governed: Database, login: str, statement: str) -> None:
    connection = await asyncpg.connect(getattr(governed, login))
    try:
        with pytest.raises(DENIED):
            await connection.execute(statement)
    finally:
        await connection.close()


@both_logins
async def test_no_login_reads_a_secret(governed: Database, login: str) -> None:
    connection = await asyncpg.connect(getattr(governed, login))
    try:
        for statement in (
            "SELECT * FROM gate.person_secrets",
            "SELECT stored_key FROM gate.person_secrets",
            "COPY gate.person_secrets TO STDOUT",
            "SELECT last_value FROM gate.person_failures_1",
        ):
            with pytest.raises(DENIED):
                await connection.execute(statement)
    finally:
        await connection.close()


@both_logins
@pytest.mark.parametrize(
    "call",
    [
        "gate.policy_put_active('n', '{}', sha256('{}'), NULL, 'x', 'x', NULL)",
        "gate.policy_make_active('n', '{}', sha256('{}'), NULL, 'x', 'x', NULL)",
        "gate.draft_activate(1, 'x', NULL)",
        "gate.channel_state_put('x', 'active', NULL, 'x', 'x', NULL)",
        "gate.tier_put('x', NULL, NULL, 'prime', now(), NULL, 'manual', 'x', 'x', NULL)",
        "gate.channel_put('c', 'c', 'online', 'active', 'o', NULL, '{}', now(), NULL, 'x', 'x', NULL)",
        "gate.apply_tier('x', '{}', 'x', 1, 'x', NULL)",
        "gate.apply_channel_state('x', '{}', 'x', 1, 'x', NULL)",
        "gate.tier_override_end(1, 'x')",
        "gate.require_signature('ben', '{}', 'approve', 'x', 'x', '', NULL, NULL, NULL, '')",
        "gate.person_add('eve', 'eve', ARRAY['policy-approver'], sha256('x'), 'x', NULL)",
        "gate.person_rotate('ben', sha256('x'), 'x', NULL)",
        "gate.person_amend('ada', ARRAY['policy-approver'], NULL, 'x', 'x', NULL)",
        "gate.person_unlock('ben', 'x', 'x', NULL)",
        "gate.governance_set(true, false, 'x', 'x', NULL)",
    ],
)
async def test_what_does_the_work_cannot_be_called(governed: Database, login: str, call: str) -> None:
    connection = await asyncpg.connect(getattr(governed, login))
    try:
        with pytest.raises(DENIED):
            await connection.execute(f"SELECT {call}")
    finally:
        await connection.close()


_SERVING = """budget_periods_ensure budget_rooms cost_record feed_state governance_tick held_claim held_lapse
    held_resolve journal_flush loan_balance_put outcomes_post outcomes_wake partitions_ahead
    partitions_ensure quarantine_put reservation_fund reservation_post reservation_void
    reservations_expire reviews_gather reviews_supersede shadow_add tier_at webhook_claim
    webhook_settle worker_beat"""
_GOVERNANCE = """api_key_create api_key_revoke break_glass_confirm break_glass_end break_glass_open budget_covers
    budget_end budget_set challenger_clear challenger_set change_approve change_close change_request
    channel_alias_put channel_alias_remove channel_amend channel_kill channel_register
    channel_set_state channel_void_reservations day_digest draft_amend draft_approve draft_close
    draft_create draft_submit governance_tick hold_place hold_release invariants_record
    journal_barrier journal_content_faults journal_days_due journal_digest_make journal_hours
    keys_expire month_drop month_sweep originator_register outcomes_deidentify partitions_ahead
    partitions_ensure person_erase person_forget policy_publish posted_units quarantine_sweep report_put retention_due
    retention_preview review_approve review_claim review_claim_next review_contest review_decline
    review_prioritise review_release review_resolve reviews_forget reviews_gather reviews_supersede
    tier_assign tier_at webhook_create webhook_disable webhook_redeliver webhook_rotate whatif_begin
    whatif_cancel whatif_end whatif_progress"""


@pytest.mark.parametrize(("login", "known"), [("serving", _SERVING), ("governance", _GOVERNANCE)])
async def test_a_login_calls_these_functions_and_no_other(database: Database, login: str, known: str) -> None:
    """Each was looked at: can it, alone, make the gate laxer? Who adds one has to answer that."""
    connection = await asyncpg.connect(getattr(database, login))
    try:
        allowed = await connection.fetch(
            "SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'gate'::regnamespace"
            " AND has_function_privilege(oid, 'EXECUTE')"
        )
    finally:
        await connection.close()
    assert {row[0] for row in allowed} == set(known.split())


@pytest.mark.parametrize("function", ["draft_submit", "draft_approve", "break_glass_open", "change_approve"])
async def test_serving_signs_nothing(database: Database, draft: Draft, function: str) -> None:
    connection = await asyncpg.connect(database.serving)
    try:
        allowed = await connection.fetch(
            "SELECT has_function_privilege(oid, 'EXECUTE') FROM pg_proc"
            " WHERE pronamespace = 'gate'::regnamespace AND proname = $1",
            function,
        )
    finally:
        await connection.close()
    assert [row[0] for row in allowed] == [False]


async def test_the_authors_own_signature_approves_under_nobodys_name(
    attacker: asyncpg.Connection, draft: Draft, people: People
) -> None:
    proof = people.sign_approval(draft, AUTHOR).proof
    for person_id in (AUTHOR, APPROVER, "nobody", ""):
        with pytest.raises(asyncpg.PostgresError, match=r"does not approve|not that of a person"):
            await attacker.execute(APPROVE, draft.draft_id, person_id, draft.digest, proof)


async def test_a_hash_of_the_secret_or_what_is_stored_of_it_is_no_proof(
    attacker: asyncpg.Connection, database: Database, draft: Draft
) -> None:
    owner = await asyncpg.connect(database.owner)
    try:
        key = bytes(await owner.fetchval("SELECT stored_key FROM gate.person_secrets WHERE person_id = $1", APPROVER))
        used = bytes(await owner.fetchval("SELECT proof_hash FROM gate.signatures LIMIT 1"))
    finally:
        await owner.close()
    for proof in (key, used, bytes(32)):
        with pytest.raises(asyncpg.PostgresError, match="not that of a person"):
            await attacker.execute(APPROVE, draft.draft_id, APPROVER, draft.digest, proof)


async def test_an_approval_that_passed_by_fits_no_other_draft(
    governance: AsyncEngine, database: Database, people: People
) -> None:
    """The service saw the approver approve once. It holds that proof for good, and can use it for nothing."""
    first = await in_review(governance, people, 640)
    seen = people.sign_approval(first).proof
    await approve(governance, people, first)
    second = await in_review(governance, people, 300)
    connection = await asyncpg.connect(database.governance)
    try:
        for draft in (first, second):
            with pytest.raises(asyncpg.PostgresError):
                await connection.execute(APPROVE, draft.draft_id, APPROVER, draft.digest, seen)
        assert await connection.fetchval("SELECT policy_version FROM gate.state") == 2
    finally:
        await connection.close()


async def test_a_proof_is_taken_once(governance: AsyncEngine, database: Database, people: People) -> None:
    draft = await in_review(governance, people, 640)
    connection = await asyncpg.connect(database.governance)
    try:
        again = await connection.fetchrow(
            "SELECT * FROM gate.draft_create($1, $2, $3, NULL, NULL, NULL, NULL, 'x', NULL)",
            draft.name,
            draft.text,
            draft.digest,
        )
        proof = people.sign_submission(draft, draft.nonce or "").proof
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute(
                "SELECT gate.draft_submit($1, $2, $3, $4, '{}', '{}', $5, 'x', NULL)",
                again["draft_id"],
                AUTHOR,
                draft.nonce,
                draft.digest,
                proof,
            )
    finally:
        await connection.close()


async def test_an_author_cannot_be_invented(attacker: asyncpg.Connection, draft: Draft, people: People) -> None:
    """Else the attacker writes in another's name, and approves with a credential that is honestly theirs."""
    fresh = await attacker.fetchrow(
        "SELECT * FROM gate.draft_create($1, $2, $3, NULL, NULL, NULL, $4, 'x', NULL)",
        draft.name,
        draft.text,
        draft.digest,
        APPROVER,
    )
    nonce = "invented-author-01"
    statement = Statement(act="submit", subject="policy", nonce=nonce, digest=draft.digest)
    for person_id in ("cleo", "nobody"):
        with pytest.raises(asyncpg.PostgresError, match="not that of a person"):
            await attacker.execute(
                "SELECT gate.draft_submit($1, $2, $3, $4, '{}', '{}', $5, 'x', NULL)",
                fresh["draft_id"],
                person_id,
                nonce,
                draft.digest,
                prove(people.secrets[AUTHOR], statement),
            )


async def test_another_digest_than_the_drafts_is_not_approved(
    attacker: asyncpg.Connection, draft: Draft, people: People
) -> None:
    proof = people.sign_approval(draft).proof
    with pytest.raises(asyncpg.PostgresError, match="another one"):
        await attacker.execute(APPROVE, draft.draft_id, APPROVER, bytes(32), proof)


async def test_a_signature_for_one_report_does_not_do_for_another(
    attacker: asyncpg.Connection, draft: Draft, people: People
) -> None:
    """The attacker stores a report that tells what the approver likes to hear, and swaps it in."""
    reports = [report_on(draft), report_on(draft) + " "]
    for report in reports:
        await attacker.execute(
            "SELECT gate.report_put($1, $2, $3, sha256(convert_to($3, 'UTF8')), 'x', NULL)",
            draft.draft_id,
            draft.digest,
            report,
        )
    seen, swapped = (sha256(report.encode()).digest() for report in reports)
    proof = people.sign_approval(draft, report_digest=seen).proof
    for given in (swapped, None):
        with pytest.raises(asyncpg.PostgresError, match="not that of a person"):
            await attacker.execute(
                "SELECT gate.draft_approve($1, $2, $3, $4, '{}', 'x', $5, 'x', NULL)",
                draft.draft_id,
                APPROVER,
                draft.digest,
                given,
                proof,
            )


@pytest.mark.parametrize("act", ["submit", "confirm", "break-glass", "request"])
async def test_a_signature_for_another_act_approves_nothing(
    attacker: asyncpg.Connection, draft: Draft, people: People, act: Act
) -> None:
    statement = Statement(act=act, subject=f"draft/{draft.draft_id}", nonce=draft.nonce or "", digest=draft.digest)
    proof = people.sign(APPROVER, statement).proof
    with pytest.raises(asyncpg.PostgresError, match="not that of a person"):
        await attacker.execute(APPROVE, draft.draft_id, APPROVER, draft.digest, proof)


async def test_who_has_both_roles_does_not_approve_what_they_submitted(
    attacker: asyncpg.Connection, draft: Draft, people: People
) -> None:
    own = await attacker.fetchrow(
        "SELECT * FROM gate.draft_create($1, $2, $3, NULL, NULL, NULL, NULL, 'x', NULL)",
        draft.name,
        draft.text,
        draft.digest,
    )
    nonce = "both-roles-nonce-1"
    submission = Statement(act="submit", subject="policy", nonce=nonce, digest=draft.digest)
    await attacker.execute(
        "SELECT gate.draft_submit($1, $2, $3, $4, '{}', '{}', $5, 'x', NULL)",
        own["draft_id"],
        OTHER,
        nonce,
        draft.digest,
        people.sign(OTHER, submission).proof,
    )
    approval = Statement(act="approve", subject=f"draft/{own['draft_id']}", nonce=nonce, digest=draft.digest)
    with pytest.raises(asyncpg.PostgresError, match="who wrote a draft does not approve it"):
        await attacker.execute(APPROVE, own["draft_id"], OTHER, draft.digest, people.sign(OTHER, approval).proof)


async def test_when_a_draft_takes_effect_is_what_its_author_signed(
    attacker: asyncpg.Connection, draft: Draft, people: People
) -> None:
    """The service writes another moment into the draft than the one that the author was shown."""
    moved = await attacker.fetchrow(
        "SELECT * FROM gate.draft_create($1, $2, $3, NULL, NULL, now() + interval '1 day', NULL, 'x', NULL)",
        draft.name,
        draft.text,
        draft.digest,
    )
    nonce = "another-moment-001"
    statement = Statement(act="submit", subject="policy", nonce=nonce, digest=draft.digest)
    with pytest.raises(asyncpg.PostgresError, match="not that of a person"):
        await attacker.execute(
            "SELECT gate.draft_submit($1, $2, $3, $4, '{}', '{}', $5, 'x', NULL)",
            moved["draft_id"],
            AUTHOR,
            nonce,
            draft.digest,
            people.sign(AUTHOR, statement).proof,
        )


async def test_a_submitted_document_is_not_changed_under_the_approver(
    attacker: asyncpg.Connection, database: Database, draft: Draft
) -> None:
    with pytest.raises(asyncpg.PostgresError, match="changes no more"):
        await attacker.execute(
            "SELECT gate.draft_amend($1, $2, $3, $4, $5, NULL, NULL, NULL, 'x', NULL)",
            draft.draft_id,
            draft.revision,
            draft.name,
            draft.text,
            draft.digest,
        )
    owner = await asyncpg.connect(database.owner)
    try:  # a fault in a function of the owner's would meet the trigger
        for statement in ("SET document = '{}'", "SET effective_from = now()", "SET state = 'active'"):
            with pytest.raises(asyncpg.PostgresError):
                await owner.execute(f"UPDATE gate.policy_drafts {statement}")
    finally:
        await owner.close()


async def test_names_that_stand_in_the_way_are_not_looked_at(
    attacker: asyncpg.Connection, draft: Draft, people: People
) -> None:
    """Temporary tables, functions of one's own and a search_path, where the session can make them at all."""
    for statement in (
        "CREATE TEMP TABLE governance (single_person boolean, report_required boolean)",
        "CREATE TEMP TABLE person_secrets (person_id text, stored_key bytea, number integer)",
        "CREATE TEMP TABLE persons (person_id text, roles text[], disabled_at timestamptz)",
        "CREATE FUNCTION pg_temp.sha256(bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT ''::bytea $$",
        "CREATE FUNCTION pg_temp.encode(bytea, text) RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$",
        "SET search_path = pg_temp, pg_catalog, gate",
    ):
        try:
            await attacker.execute(statement)
        except DENIED:
            continue
    forged = people.sign_approval(draft, AUTHOR).proof
    with pytest.raises(asyncpg.PostgresError, match="not that of a person"):
        await attacker.execute(APPROVE, draft.draft_id, APPROVER, draft.digest, forged)
    with pytest.raises(asyncpg.PostgresError, match="one person cannot publish"):
        await attacker.execute(
            "SELECT * FROM gate.policy_publish($1, $2, $3, NULL, 'x', 'x', NULL)", draft.name, draft.text, draft.digest
        )


@both_logins
@pytest.mark.parametrize(
    "statement",
    [
        "SET ROLE channel_gate_owner",
        "SET SESSION AUTHORIZATION channel_gate_owner",
        "SET session_replication_role = replica",
        "GRANT channel_gate_owner TO CURRENT_USER",
        "CREATE FUNCTION gate.sha256(bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT ''::bytea $$",
        "CREATE OR REPLACE FUNCTION gate.is_single_person() RETURNS boolean LANGUAGE sql AS 'SELECT true'",
        "CREATE TABLE gate.mine (a int)",
        "CREATE TRIGGER mine BEFORE UPDATE ON gate.policy_drafts FOR EACH ROW EXECUTE FUNCTION gate.refuse_change()",
        "ALTER TABLE gate.policy_drafts DISABLE TRIGGER ALL",
        "ALTER TABLE gate.policy_drafts DROP CONSTRAINT policy_drafts_two_persons",
        "DROP TRIGGER policy_drafts_go_in_order ON gate.policy_drafts",
        "ALTER DEFAULT PRIVILEGES FOR ROLE channel_gate_owner GRANT EXECUTE ON FUNCTIONS TO PUBLIC",
        "CREATE SCHEMA mine",
    ],
)
async def test_no_login_becomes_another_or_changes_the_schema(governed: Database, login: str, statement: str) -> None:
    connection = await asyncpg.connect(getattr(governed, login))
    try:
        with pytest.raises(asyncpg.PostgresError) as refused:
            await connection.execute(statement)
        assert isinstance(refused.value, DENIED)
    finally:
        await connection.close()


async def test_wrong_proofs_lock_the_person_although_each_is_rolled_back(
    attacker: asyncpg.Connection, draft: Draft, people: People
) -> None:
    for _ in range(10):
        transaction = attacker.transaction()
        await transaction.start()
        with pytest.raises(asyncpg.PostgresError, match="not that of a person"):
            await attacker.execute(APPROVE, draft.draft_id, APPROVER, draft.digest, bytes(32))
        await transaction.rollback()
    with pytest.raises(asyncpg.PostgresError, match="locked"):
        await attacker.execute(APPROVE, draft.draft_id, APPROVER, draft.digest, people.sign_approval(draft).proof)


async def test_a_channel_moves_up_by_no_function_that_one_person_may_call(attacker: asyncpg.Connection) -> None:
    for call in (
        "gate.channel_register('c', 'c', 'online', 'active', 'o', NULL, '{}', now(), NULL, 'x', 'x', NULL)",
        "gate.channel_register('c', 'c', 'online', 'probation', 'o', NULL, '{}', now(), NULL, 'x', 'x', NULL)",
    ):
        with pytest.raises(asyncpg.PostgresError, match="proposed"):
            await attacker.execute(f"SELECT {call}")
    await attacker.execute(
        "SELECT gate.channel_register('c', 'c', 'online', 'proposed', 'o', NULL, '{}', now(), NULL, 'x', 'x', NULL)"
    )
    with pytest.raises(asyncpg.PostgresError, match="second person"):
        await attacker.execute("SELECT gate.channel_set_state('c', 'probation', NULL, 'x', 'x', NULL)")
    with pytest.raises(asyncpg.PostgresError, match="second person"):
        await attacker.execute(
            "SELECT gate.tier_assign('c', NULL, NULL, 'prime', now(), NULL, 'initial', 'x', 'x', NULL)"
        )
