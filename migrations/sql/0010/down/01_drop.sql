-- Nobody writes down what was found.
REVOKE EXECUTE ON FUNCTION gate.posted_units(text, bigint, bigint, bigint),
    gate.budget_covers(gate.budgets, integer, text, text, text, text) FROM {{governance}};
DROP FUNCTION gate.invariants_record;
DROP TABLE gate.invariant_scope, gate.invariant_runs;
