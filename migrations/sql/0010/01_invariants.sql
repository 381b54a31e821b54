-- What was found when the gate last looked whether its own figures agree (app/invariants). Workers report it.

CREATE TABLE gate.invariant_runs (
    run_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    since timestamptz NOT NULL,
    violations jsonb NOT NULL CHECK (jsonb_typeof(violations) = 'object'),
    run_by text NOT NULL
);
CREATE TRIGGER invariant_runs_are_immutable BEFORE UPDATE OR DELETE ON gate.invariant_runs
    FOR EACH ROW EXECUTE FUNCTION gate.refuse_change();

-- What was decided before has no reservation and no event: there was nothing that made them.
CREATE TABLE gate.invariant_scope (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    since timestamptz NOT NULL
);
INSERT INTO gate.invariant_scope (since)
SELECT CASE WHEN EXISTS (SELECT FROM gate.decisions) OR EXISTS (SELECT FROM gate.channel_state_changes) THEN now()
            ELSE '-infinity' END;

CREATE FUNCTION gate.invariants_record(
    p_started_at timestamptz, p_since timestamptz, p_violations jsonb, p_actor text
) RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO gate.invariant_runs (started_at, since, violations, run_by)
    VALUES (p_started_at, p_since, p_violations, p_actor) RETURNING run_id
$$;

SELECT gate.forbid_truncate('gate.invariant_runs', 'gate.invariant_scope');
