-- Erasure of a person, where the law lets it.

ALTER TABLE gate.quarantine ALTER COLUMN input DROP NOT NULL, ADD COLUMN erased_at timestamptz;

-- Whose input a quarantined one is; null where it does not say, or cannot be read.
CREATE FUNCTION gate.input_applicant_ref(p_input bytea) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN convert_from(p_input, 'UTF8')::jsonb #>> '{applicant,applicant_ref}';
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END $$;

-- Blanks what the log holds about one person: input, record, reference and the partner's own source, in the log (also
-- in what outlived its month) and in quarantine. What stays says that a decision was made, how and when: outcome,
-- reasons' codes, the loan asked for, hashes, dates, and the answer, which names no attribute of the person.
--
-- Nothing lifts a legal hold but its release. Within the time that the law prescribes a decision is blanked only on a
-- basis that p_basis names:
--   no_duty     no law prescribes to keep it (another jurisdiction, an application that was never complete),
--   unlawful    it was processed unlawfully (GDPR 17(1)(d), PIPL 47(4)),
--   ordered     a court or an authority has ordered it.
-- Quarantine holds no decision, so only a hold keeps it. The audit log gets counts and no person.
CREATE FUNCTION gate.person_erase(
    p_applicant_ref text, p_basis text, p_months_consumer integer, p_months_business integer, p_reason text,
    p_actor text, p_request_id text
) RETURNS TABLE (erased bigint, quarantined bigint, on_hold bigint, within_period bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_consumer interval := gate.require_period('consumer', p_months_consumer);
    v_business interval := gate.require_period('business', p_months_business);
    v_erased bigint;
    v_quarantined bigint := 0;
    v_on_hold bigint;
    v_within bigint;
BEGIN
    PERFORM gate.require_text('a person', p_applicant_ref);
    PERFORM gate.require_text('a reason', p_reason);
    IF position(p_applicant_ref IN p_reason) > 0 THEN
        RAISE EXCEPTION 'the reason must not name the person' USING ERRCODE = 'CG422';
    ELSIF p_basis NOT IN ('no_duty', 'unlawful', 'ordered') THEN
        RAISE EXCEPTION 'the basis is no_duty, unlawful or ordered' USING ERRCODE = 'CG422';
    END IF;
    PERFORM gate.custody_lock();

    WITH theirs AS MATERIALIZED (
        SELECT c.decision_id, c.decided_at, c.retention_class, c.on_hold,
               p_basis IS NULL AND now() < c.clock_start
                   + CASE c.retention_class WHEN 'business' THEN v_business ELSE v_consumer END AS within_period
        FROM gate.decision_custody c WHERE c.applicant_ref = p_applicant_ref
    ), blanked AS (
        UPDATE gate.decisions d
        SET input = NULL, record = NULL, applicant_ref = NULL, sub_id = NULL, erased_at = now()
        FROM theirs t
        WHERE NOT t.on_hold AND NOT t.within_period AND d.applicant_ref = p_applicant_ref
          AND d.decision_id = t.decision_id AND d.decided_at = t.decided_at AND d.retention_class = t.retention_class
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM blanked), count(*) FILTER (WHERE t.on_hold),
           count(*) FILTER (WHERE NOT t.on_hold AND t.within_period)
    INTO v_erased, v_on_hold, v_within FROM theirs t;

    IF NOT EXISTS (SELECT FROM gate.legal_holds h WHERE h.released_at IS NULL AND h.applicant_ref = p_applicant_ref) THEN
        UPDATE gate.quarantine q SET input = NULL, erased_at = now()
        WHERE position(convert_to(p_applicant_ref, 'UTF8') IN q.input) > 0
          AND gate.input_applicant_ref(q.input) = p_applicant_ref
          AND NOT EXISTS (SELECT FROM gate.legal_holds h
                          WHERE h.released_at IS NULL AND h.decision_id = q.decision_id);
        GET DIAGNOSTICS v_quarantined = ROW_COUNT;
    END IF;
    IF v_erased + v_quarantined + v_on_hold + v_within = 0 THEN
        RAISE EXCEPTION 'the log holds nothing about that person' USING ERRCODE = 'CG404';
    END IF;
    PERFORM gate.audit_append(
        p_actor, 'person.erase', 'person', NULL,
        jsonb_build_object('basis', p_basis, 'erased', v_erased, 'quarantined', v_quarantined, 'on_hold', v_on_hold,
                           'within_period', v_within), p_reason, p_request_id);
    RETURN QUERY SELECT v_erased, v_quarantined, v_on_hold, v_within;
END $$;

-- Removes what has lain in quarantine for p_days: no decision came of it, so no law keeps it, only a hold does.
CREATE FUNCTION gate.quarantine_sweep(p_days integer, p_actor text, p_request_id text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_gone bigint;
BEGIN
    IF p_days IS NULL OR p_days < 30 THEN
        RAISE EXCEPTION 'quarantine is kept for at least 30 days' USING ERRCODE = 'CG422';
    END IF;
    PERFORM gate.custody_lock();
    DELETE FROM gate.quarantine q
    WHERE q.at < now() - make_interval(days => p_days)
      AND NOT EXISTS (SELECT FROM gate.legal_holds h
                      WHERE h.released_at IS NULL
                        AND (h.decision_id = q.decision_id OR h.applicant_ref = gate.input_applicant_ref(q.input)));
    GET DIAGNOSTICS v_gone = ROW_COUNT;
    IF v_gone > 0 THEN
        PERFORM gate.audit_append(p_actor, 'quarantine.sweep', 'quarantine', NULL,
                                  jsonb_build_object('removed', v_gone, 'days', p_days), NULL, p_request_id);
    END IF;
    RETURN v_gone;
END $$;
