-- What is still open is kept, whatever its age; an erasure reaches the reviewers' notes; what the log drops goes here, too.

-- What stands between a decision and its removal. The clock of what a person has to decide starts when that is over; of
-- what the queue does not know yet, as gate.retention_clock_start says.
CREATE OR REPLACE VIEW gate.decision_custody AS
SELECT d.decision_id, d.decided_at, d.retention_class, d.originator_id, d.application_id, d.revision, d.applicant_ref,
       d.erased_at,
       CASE WHEN r.decision_id IS NULL
            THEN gate.retention_clock_start(d.decision_id, d.decided_at, d.outcome, d.next_action)
            ELSE coalesce(r.resolved_at, 'infinity') END AS clock_start,
       EXISTS (SELECT FROM gate.legal_holds h WHERE h.released_at IS NULL AND h.applicant_ref = d.applicant_ref)
       OR EXISTS (SELECT FROM gate.legal_holds h WHERE h.released_at IS NULL AND h.decision_id = d.decision_id)
       OR EXISTS (SELECT FROM gate.legal_holds h WHERE h.released_at IS NULL AND h.channel_id = d.channel_id) AS on_hold
FROM gate.decisions d LEFT JOIN gate.reviews r ON r.decision_id = d.decision_id;

CREATE FUNCTION gate.blank_review_notes() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE gate.review_actions a SET note = NULL FROM changed c
    WHERE a.decision_id = c.decision_id AND c.erased_at IS NOT NULL AND a.note IS NOT NULL;
    -- What was signed can no longer be accepted, so there is nothing left to approve either.
    UPDATE gate.reviews r
    SET proposal = NULL, state = CASE r.state WHEN 'proposed' THEN 'open' ELSE r.state END,
        nonce = CASE r.state WHEN 'proposed' THEN NULL ELSE r.nonce END,
        proposed_by = CASE r.state WHEN 'proposed' THEN NULL ELSE r.proposed_by END
    FROM changed c
    WHERE r.decision_id = c.decision_id AND c.erased_at IS NOT NULL AND r.proposal IS NOT NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER decisions_erased AFTER UPDATE ON gate.decisions REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION gate.blank_review_notes();

-- Removes the reviews of decisions that the log has dropped, with their history. Called after months were dropped.
CREATE FUNCTION gate.reviews_forget() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_gone uuid[];
BEGIN
    SELECT array_agg(r.decision_id) INTO v_gone
    FROM gate.dropped_months m
    JOIN gate.reviews r ON r.retention_class = m.retention_class
                       AND r.decided_at >= m.month::timestamp AT TIME ZONE 'UTC'
                       AND r.decided_at < (m.month + interval '1 month')::timestamp AT TIME ZONE 'UTC'
    WHERE NOT EXISTS (SELECT FROM gate.decisions d
                      WHERE d.decision_id = r.decision_id AND d.decided_at = r.decided_at
                        AND d.retention_class = r.retention_class);
    DELETE FROM gate.review_actions WHERE decision_id = ANY (v_gone);
    DELETE FROM gate.reviews WHERE decision_id = ANY (v_gone);
    RETURN coalesce(cardinality(v_gone), 0);
END $$;
