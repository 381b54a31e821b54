-- No queue: what was resolved stays in the audit log and as reservations.
DROP TRIGGER decisions_erased ON gate.decisions;
CREATE OR REPLACE VIEW gate.decision_custody AS
SELECT d.decision_id, d.decided_at, d.retention_class, d.originator_id, d.application_id, d.revision, d.applicant_ref,
       d.erased_at,
       gate.retention_clock_start(d.decision_id, d.decided_at, d.outcome, d.next_action) AS clock_start,
       EXISTS (SELECT FROM gate.legal_holds h WHERE h.released_at IS NULL AND h.applicant_ref = d.applicant_ref)
       OR EXISTS (SELECT FROM gate.legal_holds h WHERE h.released_at IS NULL AND h.decision_id = d.decision_id)
       OR EXISTS (SELECT FROM gate.legal_holds h WHERE h.released_at IS NULL AND h.channel_id = d.channel_id) AS on_hold
FROM gate.decisions d;
DROP FUNCTION gate.reviews_forget, gate.blank_review_notes, gate.review_decline, gate.review_approve, gate.review_resolve,
    gate.review_accept, gate.review_close, gate.review_subject, gate.review_contest,
    gate.review_prioritise, gate.review_release, gate.review_claim, gate.review_locked, gate.review_take,
    gate.review_claim_next, gate.reviews_supersede, gate.review_is_superseded, gate.review_act, gate.reviews_gather,
    gate.review_takes_two, gate.review_due_at;
CREATE OR REPLACE FUNCTION gate.person_facts(
    p_applicant_ref text, p_product text, p_channel_id integer, p_originator_id integer, p_application_id text,
    p_at timestamptz
) RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT concat_ws(' ',
        count(*) FILTER (WHERE r.state = 'reserved' AND d.product = p_product AND NOT own),
        count(*) FILTER (WHERE d.outcome = 'reject' AND d.channel_id <> p_channel_id),
        count(DISTINCT (d.originator_id, d.application_id)) FILTER (WHERE NOT own) + 1,
        count(DISTINCT d.channel_id) FILTER (WHERE d.channel_id <> p_channel_id) + 1)
    FROM (SELECT e.*, e.originator_id = p_originator_id AND e.application_id = p_application_id AS own
          FROM gate.decisions e
          WHERE e.applicant_ref = p_applicant_ref AND e.decided_at > p_at - interval '30 days'
            AND e.decided_at < p_at + interval '1 day'
          LIMIT 1000) d
    LEFT JOIN gate.reservations r ON r.decision_id = d.decision_id AND d.outcome <> 'reject'
$$;
DROP TABLE gate.review_intake, gate.review_actions, gate.reviews;
DROP FUNCTION gate.only_blank_action, gate.review_is_resolved_once;
DROP INDEX gate.decisions_review;
UPDATE gate.persons SET roles = array_remove(roles, 'reviewer'), disabled_at = coalesce(disabled_at, now())
WHERE roles @> ARRAY['reviewer'] AND cardinality(roles) > 1;
UPDATE gate.persons SET roles = ARRAY['policy-author'], disabled_at = coalesce(disabled_at, now())
WHERE roles = ARRAY['reviewer'];
ALTER TABLE gate.persons DROP CONSTRAINT persons_roles_check;
ALTER TABLE gate.persons ADD CONSTRAINT persons_roles_check CHECK (
    cardinality(roles) > 0 AND roles <@ ARRAY['policy-author', 'policy-approver', 'admin']);
