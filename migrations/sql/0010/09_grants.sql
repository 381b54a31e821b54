REVOKE ALL ON ALL FUNCTIONS IN SCHEMA gate FROM PUBLIC;
GRANT SELECT ON gate.invariant_runs, gate.invariant_scope TO {{serving}}, {{governance}};
GRANT EXECUTE ON FUNCTION gate.invariants_record(timestamptz, timestamptz, jsonb, text) TO {{governance}};
-- Arithmetic over what its login reads anyway.
GRANT EXECUTE ON FUNCTION gate.posted_units(text, bigint, bigint, bigint),
    gate.budget_covers(gate.budgets, integer, text, text, text, text) TO {{governance}};
