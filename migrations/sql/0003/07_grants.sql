-- Both logins read who may sign and what was signed; neither reads a secret. Governance calls what carries signatures,
-- and serving calls the clock. Persons and the rules of governance are the owner's alone.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA gate FROM PUBLIC;

GRANT SELECT ON gate.governance, gate.persons, gate.signatures, gate.policy_drafts, gate.whatif_reports,
    gate.break_glass, gate.change_kinds, gate.change_requests, gate.tier_overrides
    TO {{serving}}, {{governance}};

DO $$
DECLARE
    v_function regprocedure;
BEGIN
    FOR v_function IN
        SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'gate'::regnamespace
        AND proname IN ('policy_publish', 'channel_register', 'channel_set_state', 'tier_assign', 'draft_create',
                        'draft_amend', 'draft_submit', 'draft_approve', 'draft_close', 'report_put', 'break_glass_open',
                        'break_glass_confirm', 'break_glass_end', 'change_request', 'change_approve', 'change_close')
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO {{governance}}', v_function);
    END LOOP;
END $$;
GRANT EXECUTE ON FUNCTION gate.governance_tick() TO {{serving}}, {{governance}};
