-- The flush as it was.
CREATE FUNCTION gate.journal_flush(
    p_rows json, p_bytes bytea,
    p_person_row integer[], p_person_ref text[],
    p_budget_row integer[], p_budget_id bigint[], p_budget_units bigint[]
) RETURNS TABLE (row_number integer, status text, response bytea)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    v_rows record;
    v_active integer;
    v_stored integer := 0;
    v_other integer;
BEGIN
    IF cardinality(p_person_row) > 0 OR cardinality(p_budget_row) > 0 THEN
        RAISE EXCEPTION 'persons and budgets are not settled by this version' USING ERRCODE = '0A000';
    END IF;
    SELECT * INTO STRICT v_rows FROM json_to_record(p_rows) AS r (
        originator_id integer[], application_id text[], revision smallint[], decision_id uuid[],
        decided_at timestamptz[], retention_class text[], policy_version integer[], engine text[],
        channel_id integer[], channel_revision bigint[], channel_code text[], sub_id text[], product text[],
        jurisdiction text[], tier text[], outcome text[], next_action text[], amount bigint[], currency text[],
        term_months smallint[], ceiling_amount bigint[], offered_amount bigint[], reason_codes text[],
        applicant_ref text[], bytes_at integer[], input_bytes integer[], record_bytes integer[],
        response_bytes integer[]);
    PERFORM gate.fence_shared();
    SELECT policy_version INTO v_active FROM gate.state;

    INSERT INTO gate.decision_keys (originator_id, application_id, revision, retention_class, decided_at, decision_id,
                                    fingerprint)
    SELECT a.originator_id, a.application_id, a.revision, a.retention_class, a.decided_at, a.decision_id,
           substring(p_bytes, a.bytes_at + 1, 32)
    FROM unnest(v_rows.originator_id, v_rows.application_id, v_rows.revision, v_rows.retention_class,
                v_rows.decided_at, v_rows.decision_id, v_rows.policy_version, v_rows.channel_id,
                v_rows.channel_revision, v_rows.bytes_at)
         AS a (originator_id, application_id, revision, retention_class, decided_at, decision_id, policy_version,
               channel_id, channel_revision, bytes_at)
    JOIN gate.channels c ON c.channel_id = a.channel_id AND c.revision = a.channel_revision
    WHERE a.policy_version = v_active
      AND NOT EXISTS (SELECT FROM gate.decision_keys k
                      WHERE k.originator_id = a.originator_id AND k.application_id = a.application_id
                        AND k.revision > a.revision)
    ORDER BY a.originator_id, a.application_id COLLATE "C", a.revision
    ON CONFLICT DO NOTHING;

    IF FOUND THEN
        INSERT INTO gate.decisions (
            decision_id, decided_at, retention_class, originator_id, application_id, revision, channel_id, channel_code,
            sub_id, product, jurisdiction, tier, policy_version, engine, outcome, next_action, amount, currency,
            term_months, ceiling_amount, offered_amount, reason_codes, applicant_ref, fingerprint, content_digest,
            input, record, response)
        SELECT a.decision_id, a.decided_at, a.retention_class, a.originator_id, a.application_id, a.revision,
               a.channel_id, a.channel_code, a.sub_id, a.product, a.jurisdiction, a.tier, a.policy_version, a.engine,
               a.outcome, a.next_action, a.amount, a.currency, a.term_months, a.ceiling_amount, a.offered_amount,
               string_to_array(a.reason_codes, ','), a.applicant_ref,
               substring(p_bytes, a.bytes_at + 1, 32),
               substring(p_bytes, a.bytes_at + 33, 32),
               substring(p_bytes, a.bytes_at + 65, a.input_bytes),
               substring(p_bytes, a.bytes_at + 65 + a.input_bytes, a.record_bytes),
               substring(p_bytes, a.bytes_at + 65 + a.input_bytes + a.record_bytes, a.response_bytes)
        FROM unnest(v_rows.decision_id, v_rows.decided_at, v_rows.retention_class, v_rows.originator_id,
                    v_rows.application_id, v_rows.revision, v_rows.channel_id, v_rows.channel_code, v_rows.sub_id,
                    v_rows.product, v_rows.jurisdiction, v_rows.tier, v_rows.policy_version, v_rows.engine,
                    v_rows.outcome, v_rows.next_action, v_rows.amount, v_rows.currency, v_rows.term_months,
                    v_rows.ceiling_amount, v_rows.offered_amount, v_rows.reason_codes, v_rows.applicant_ref,
                    v_rows.bytes_at, v_rows.input_bytes, v_rows.record_bytes, v_rows.response_bytes)
             AS a (decision_id, decided_at, retention_class, originator_id, application_id, revision, channel_id,
                   channel_code, sub_id, product, jurisdiction, tier, policy_version, engine, outcome, next_action,
                   amount, currency, term_months, ceiling_amount, offered_amount, reason_codes, applicant_ref,
                   bytes_at, input_bytes, record_bytes, response_bytes)
        JOIN gate.decision_keys k
          ON k.originator_id = a.originator_id AND k.application_id = a.application_id AND k.revision = a.revision
         AND k.decision_id = a.decision_id;
        GET DIAGNOSTICS v_stored = ROW_COUNT;
    ELSE
        -- An answer from the log must be as durable as the first one was, also on a standby.
        PERFORM pg_logical_emit_message(true, 'gate', '');
    END IF;

    -- A statement of its own: it sees the rows of a winner that the insert had to wait for.
    RETURN QUERY
    SELECT a.row_number::integer,
           CASE WHEN k.fingerprint = substring(p_bytes, a.bytes_at + 1, 32) THEN 'replayed'
                WHEN k.decision_id IS NOT NULL THEN 'conflict'
                WHEN EXISTS (SELECT FROM gate.decision_keys n
                             WHERE n.originator_id = a.originator_id AND n.application_id = a.application_id
                               AND n.revision > a.revision) THEN 'superseded'
                ELSE 'stale' END,
           CASE WHEN k.fingerprint = substring(p_bytes, a.bytes_at + 1, 32)
                THEN (SELECT d.response FROM gate.decisions d
                      WHERE d.decision_id = k.decision_id AND d.decided_at = k.decided_at
                        AND d.retention_class = k.retention_class) END
    FROM unnest(v_rows.originator_id, v_rows.application_id, v_rows.revision, v_rows.decision_id, v_rows.bytes_at)
         WITH ORDINALITY AS a (originator_id, application_id, revision, decision_id, bytes_at, row_number)
    LEFT JOIN gate.decision_keys k
      ON k.originator_id = a.originator_id AND k.application_id = a.application_id AND k.revision = a.revision
    WHERE k.decision_id IS DISTINCT FROM a.decision_id;
    GET DIAGNOSTICS v_other = ROW_COUNT;
    IF v_stored + v_other <> cardinality(v_rows.decision_id) THEN
        RAISE EXCEPTION 'the flush did not account for every row' USING ERRCODE = 'XX000';
    END IF;
END $$;

REVOKE ALL ON FUNCTION gate.journal_flush FROM PUBLIC;
GRANT EXECUTE ON FUNCTION gate.journal_flush TO {{serving}};
