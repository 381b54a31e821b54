-- One durable flush for many decisions: the only way into the log. Called in autocommit at READ COMMITTED, so that no
-- client can hold its locks. Lock order: fence, keys in sorted order; later persons, reservations, budget periods by id.
--
-- Rows come as parallel arrays, equal keys coalesced by the caller. A row's status is
--   written     its decision is stored and was stored by this call,
--   replayed    the same request was decided before: `response` holds the stored bytes,
--   conflict    another request holds the key,
--   superseded  a newer revision of the application has been decided,
--   stale       it was decided under a policy that is not active or a channel that has changed: decide it again.
-- Persons and budgets are arrays of their own, each naming its decision by position.
CREATE FUNCTION gate.journal_flush(
    p_originator_id integer[], p_application_id text[], p_revision smallint[], p_fingerprint bytea[],
    p_decision_id uuid[], p_decided_at timestamptz[], p_retention_class text[],
    p_policy_version integer[], p_engine text[], p_channel_id integer[], p_channel_revision bigint[],
    p_channel_code text[], p_sub_id text[], p_product text[], p_jurisdiction text[], p_tier text[],
    p_outcome text[], p_next_action text[], p_amount bigint[], p_currency text[], p_term_months smallint[],
    p_ceiling_amount bigint[], p_offered_amount bigint[], p_reason_codes text[], p_applicant_ref text[],
    p_content_digest bytea[], p_input bytea[], p_record bytea[], p_response bytea[],
    p_person_row integer[], p_person_ref text[],
    p_budget_row integer[], p_budget_id bigint[], p_budget_units bigint[]
) RETURNS TABLE (row_number integer, status text, response bytea)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_active integer;
    v_written integer;
BEGIN
    IF cardinality(p_person_row) > 0 OR cardinality(p_budget_row) > 0 THEN
        RAISE EXCEPTION 'persons and budgets are not settled by this version' USING ERRCODE = '0A000';
    END IF;
    PERFORM gate.fence_shared();
    SELECT policy_version INTO v_active FROM gate.state;

    INSERT INTO gate.decision_keys (originator_id, application_id, revision, retention_class, decided_at, decision_id,
                                    fingerprint)
    SELECT a.originator_id, a.application_id, a.revision, a.retention_class, a.decided_at, a.decision_id, a.fingerprint
    FROM unnest(p_originator_id, p_application_id, p_revision, p_retention_class, p_decided_at, p_decision_id,
                p_fingerprint, p_policy_version, p_channel_id, p_channel_revision)
         AS a (originator_id, application_id, revision, retention_class, decided_at, decision_id, fingerprint,
               policy_version, channel_id, channel_revision)
    JOIN gate.channels c ON c.channel_id = a.channel_id AND c.revision = a.channel_revision
    WHERE a.policy_version = v_active
      AND NOT EXISTS (SELECT FROM gate.decision_keys k
                      WHERE k.originator_id = a.originator_id AND k.application_id = a.application_id
                        AND k.revision > a.revision)
    ORDER BY a.originator_id, a.application_id COLLATE "C", a.revision
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS v_written = ROW_COUNT;

    IF v_written > 0 THEN
        INSERT INTO gate.decisions (
            decision_id, decided_at, retention_class, originator_id, application_id, revision, channel_id, channel_code,
            sub_id, product, jurisdiction, tier, policy_version, engine, outcome, next_action, amount, currency,
            term_months, ceiling_amount, offered_amount, reason_codes, applicant_ref, fingerprint, content_digest,
            input, record, response)
        SELECT a.decision_id, a.decided_at, a.retention_class, a.originator_id, a.application_id, a.revision,
               a.channel_id, a.channel_code, a.sub_id, a.product, a.jurisdiction, a.tier, a.policy_version, a.engine,
               a.outcome, a.next_action, a.amount, a.currency, a.term_months, a.ceiling_amount, a.offered_amount,
               string_to_array(a.reason_codes, ','), a.applicant_ref, a.fingerprint, a.content_digest, a.input,
               a.record, a.response
        FROM unnest(p_decision_id, p_decided_at, p_retention_class, p_originator_id, p_application_id, p_revision,
                    p_channel_id, p_channel_code, p_sub_id, p_product, p_jurisdiction, p_tier, p_policy_version,
                    p_engine, p_outcome, p_next_action, p_amount, p_currency, p_term_months, p_ceiling_amount,
                    p_offered_amount, p_reason_codes, p_applicant_ref, p_fingerprint, p_content_digest, p_input,
                    p_record, p_response)
             AS a (decision_id, decided_at, retention_class, originator_id, application_id, revision, channel_id,
                   channel_code, sub_id, product, jurisdiction, tier, policy_version, engine, outcome, next_action,
                   amount, currency, term_months, ceiling_amount, offered_amount, reason_codes, applicant_ref,
                   fingerprint, content_digest, input, record, response)
        JOIN gate.decision_keys k
          ON k.originator_id = a.originator_id AND k.application_id = a.application_id AND k.revision = a.revision
         AND k.decision_id = a.decision_id;
    ELSE
        -- An answer from the log must be as durable as the first one was, also on a standby.
        PERFORM pg_logical_emit_message(true, 'gate', '');
    END IF;

    -- A statement of its own: it sees the rows of a winner that the insert had to wait for.
    RETURN QUERY
    SELECT a.row_number::integer,
           CASE WHEN k.decision_id = a.decision_id THEN 'written'
                WHEN k.fingerprint = a.fingerprint THEN 'replayed'
                WHEN k.decision_id IS NOT NULL THEN 'conflict'
                WHEN EXISTS (SELECT FROM gate.decision_keys n
                             WHERE n.originator_id = a.originator_id AND n.application_id = a.application_id
                               AND n.revision > a.revision) THEN 'superseded'
                ELSE 'stale' END,
           CASE WHEN k.decision_id <> a.decision_id AND k.fingerprint = a.fingerprint
                THEN (SELECT d.response FROM gate.decisions d
                      WHERE d.decision_id = k.decision_id AND d.decided_at = k.decided_at
                        AND d.retention_class = k.retention_class) END
    FROM unnest(p_originator_id, p_application_id, p_revision, p_decision_id, p_fingerprint)
         WITH ORDINALITY AS a (originator_id, application_id, revision, decision_id, fingerprint, row_number)
    LEFT JOIN gate.decision_keys k
      ON k.originator_id = a.originator_id AND k.application_id = a.application_id AND k.revision = a.revision;
END $$;
