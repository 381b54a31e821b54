-- What falls due by the time: scheduled activations, break-glasses that nobody confirmed, overrides that end. Any worker
-- calls this every few seconds; one at a time does the work, the others return at once. It takes no argument, so that a
-- login may call it without being able to bring anything about that was not approved.
CREATE FUNCTION gate.governance_tick()
RETURNS TABLE (activated integer, lapsed integer, reverted integer, overrides_ended integer, failed integer,
               break_glass_open integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_due record;
    v_draft gate.policy_drafts;
    v_activated integer := 0;
    v_lapsed integer := 0;
    v_reverted integer := 0;
    v_ended integer := 0;
    v_failed integer := 0;
BEGIN
    IF (EXISTS (SELECT FROM gate.policy_drafts WHERE state = 'approved' AND effective_from <= v_now
                AND NOT EXISTS (SELECT FROM gate.break_glass WHERE state = 'open' AND expires_at > v_now))
        OR EXISTS (SELECT FROM gate.break_glass WHERE state = 'open' AND expires_at <= v_now)
        OR EXISTS (SELECT FROM gate.tier_overrides WHERE ended_at IS NULL AND expires_at <= v_now))
       AND pg_try_advisory_xact_lock(4840311976251044)
    THEN
        PERFORM gate.fence_policies();
        FOR v_due IN SELECT break_glass_id FROM gate.break_glass WHERE state = 'open' AND expires_at <= v_now LOOP
            BEGIN
                PERFORM gate.break_glass_end(v_due.break_glass_id, 'expired without confirmation', 'governance-clock', NULL);
                v_reverted := v_reverted + 1;
            EXCEPTION WHEN SQLSTATE 'CG409' OR SQLSTATE 'CG412' OR SQLSTATE 'CG422' THEN
                v_failed := v_failed + 1;
            END;
        END LOOP;
        -- While a break-glass is open they wait: what they are based on may come back.
        FOR v_due IN SELECT draft_id FROM gate.policy_drafts WHERE state = 'approved' AND effective_from <= v_now
                     AND NOT EXISTS (SELECT FROM gate.break_glass WHERE state = 'open')
                     ORDER BY effective_from, draft_id LOOP
            BEGIN
                PERFORM gate.draft_activate(v_due.draft_id, 'governance-clock', NULL);
                v_activated := v_activated + 1;
            EXCEPTION WHEN SQLSTATE 'CG409' OR SQLSTATE 'CG412' OR SQLSTATE 'CG422' THEN
                v_draft := gate.draft_close(v_due.draft_id, 'withdrawn', NULL, 'lapsed: ' || SQLERRM, 'governance-clock', NULL);
                v_lapsed := v_lapsed + 1;
            END;
        END LOOP;
        FOR v_due IN SELECT assignment_id FROM gate.tier_overrides WHERE ended_at IS NULL AND expires_at <= v_now
                     ORDER BY expires_at, assignment_id LOOP
            BEGIN
                PERFORM gate.tier_override_end(v_due.assignment_id, 'governance-clock');
                v_ended := v_ended + 1;
            EXCEPTION WHEN exclusion_violation OR SQLSTATE 'CG409' OR SQLSTATE 'CG422' THEN
                v_failed := v_failed + 1;
            END;
        END LOOP;
    END IF;
    RETURN QUERY SELECT v_activated, v_lapsed, v_reverted, v_ended, v_failed,
                        (SELECT count(*)::integer FROM gate.break_glass WHERE state = 'open');
END $$;
