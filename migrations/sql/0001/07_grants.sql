-- Serving reads and may call the named functions; governance reads and may call the functions of administration.
-- Neither may write a table: what they may do, a function does.

GRANT USAGE ON SCHEMA gate TO {{serving}}, {{governance}};
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA gate FROM PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA gate REVOKE ALL ON FUNCTIONS FROM PUBLIC;

GRANT SELECT ON gate.schema_version, gate.state, gate.originators, gate.api_keys, gate.channels, gate.channel_aliases,
    gate.channel_state_changes, gate.scopes, gate.tier_assignments, gate.policies, gate.policy_activations,
    gate.workers, gate.decision_keys, gate.decisions
    TO {{serving}}, {{governance}};
GRANT SELECT ON gate.audit_log, gate.audit_head, gate.quarantine TO {{governance}};

GRANT EXECUTE ON FUNCTION gate.tier_at(text, text, text, timestamptz), gate.partitions_ahead()
    TO {{serving}}, {{governance}};

DO $$
DECLARE
    v_function regprocedure;
BEGIN
    FOR v_function IN
        SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'gate'::regnamespace
        AND proname IN ('journal_flush', 'worker_beat', 'partitions_ensure', 'quarantine_put')
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO {{serving}}', v_function);
    END LOOP;
    FOR v_function IN
        SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'gate'::regnamespace
        AND proname IN ('originator_register', 'api_key_create', 'api_key_revoke', 'channel_register', 'channel_amend',
                        'channel_set_state', 'channel_alias_put', 'channel_alias_remove', 'tier_assign',
                        'policy_publish', 'partitions_ensure')
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO {{governance}}', v_function);
    END LOOP;
END $$;
