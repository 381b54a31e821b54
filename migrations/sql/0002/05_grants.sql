-- Governance carries out retention; serving may do none of it. A default privilege of a schema cannot take away what
-- everyone gets from PostgreSQL itself, so every function is closed by name.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA gate FROM PUBLIC;

GRANT SELECT ON gate.channel_days TO {{serving}}, {{governance}};
GRANT SELECT ON gate.legal_holds, gate.journal_digests, gate.dropped_months, gate.decision_facts, gate.held_decisions
    TO {{governance}};

DO $$
DECLARE
    v_function regprocedure;
BEGIN
    FOR v_function IN
        SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'gate'::regnamespace
        AND proname IN ('hold_place', 'hold_release', 'journal_hours', 'day_digest', 'journal_days_due',
                        'journal_barrier', 'journal_digest_make', 'journal_content_faults', 'retention_due',
                        'retention_preview', 'keys_expire', 'month_drop', 'month_sweep', 'quarantine_sweep',
                        'person_erase')
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO {{governance}}', v_function);
    END LOOP;
END $$;
