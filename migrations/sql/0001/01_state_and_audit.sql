-- What the whole service agrees on, who changed it, and the fence between changes and decisions.

-- `revision` counts every change that a worker's snapshot must see; `policy_version` is the one active policy.
CREATE TABLE gate.state (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    revision bigint NOT NULL DEFAULT 0,
    policy_version integer
);
INSERT INTO gate.state DEFAULT VALUES;

-- Append-only, hash-chained: hash = sha256(previous_hash || payload as UTF-8).
CREATE TABLE gate.audit_log (
    sequence bigint PRIMARY KEY,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    payload text NOT NULL,
    request_id text,
    previous_hash bytea NOT NULL,
    hash bytea NOT NULL
);

CREATE TABLE gate.audit_head (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    sequence bigint NOT NULL DEFAULT 0,
    hash bytea NOT NULL DEFAULT '\x'
);
INSERT INTO gate.audit_head DEFAULT VALUES;

CREATE FUNCTION gate.refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION '% of gate.% is refused: its rows are immutable', TG_OP, TG_TABLE_NAME USING ERRCODE = 'CG403';
END $$;

-- A truncation fires no trigger of rows. With this not even the owner empties a table by a slip; a partition has no
-- statement triggers of its parent, so each gets its own. Dropping a month is another thing and goes on.
CREATE FUNCTION gate.forbid_truncate(VARIADIC p_tables regclass[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_table regclass;
BEGIN
    FOREACH v_table IN ARRAY p_tables LOOP
        EXECUTE format('CREATE TRIGGER is_never_truncated BEFORE TRUNCATE ON %s
                        FOR EACH STATEMENT EXECUTE FUNCTION gate.refuse_truncate()', v_table);
    END LOOP;
END $$;

CREATE FUNCTION gate.refuse_truncate() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'TRUNCATE of gate.% is refused: its rows are kept', TG_TABLE_NAME USING ERRCODE = 'CG403';
END $$;
SELECT gate.forbid_truncate('gate.state', 'gate.audit_log', 'gate.audit_head');

CREATE TRIGGER audit_log_is_immutable BEFORE UPDATE OR DELETE ON gate.audit_log
    FOR EACH ROW EXECUTE FUNCTION gate.refuse_change();

-- Appends one row to the chain. Called last in a change, so that the head is locked for the shortest time.
CREATE FUNCTION gate.audit_append(
    p_actor text, p_action text, p_subject text, p_before jsonb, p_after jsonb, p_reason text, p_request_id text
) RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_head gate.audit_head;
    v_at timestamptz := clock_timestamp();
    v_payload text;
    v_hash bytea;
BEGIN
    IF coalesce(p_actor, '') = '' THEN
        RAISE EXCEPTION 'a change needs an actor' USING ERRCODE = 'CG422';
    END IF;
    SELECT * INTO STRICT v_head FROM gate.audit_head FOR UPDATE;
    v_payload := jsonb_build_object(
        'sequence', v_head.sequence + 1,
        'at', to_char(v_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'actor', p_actor, 'action', p_action, 'subject', p_subject,
        'before', p_before, 'after', p_after, 'reason', p_reason, 'request_id', p_request_id)::text;
    v_hash := sha256(v_head.hash || convert_to(v_payload, 'UTF8'));
    INSERT INTO gate.audit_log (sequence, at, actor, action, subject, payload, request_id, previous_hash, hash)
    VALUES (v_head.sequence + 1, v_at, p_actor, p_action, p_subject, v_payload, p_request_id, v_head.hash, v_hash);
    UPDATE gate.audit_head SET sequence = v_head.sequence + 1, hash = v_hash;
    RETURN v_head.sequence + 1;
END $$;

-- The fence. A flush holds it shared, a change of what flushes depend on holds it alone: once the change has
-- committed, nothing that was decided before it can commit. An advisory lock writes no WAL and bloats no row.
CREATE FUNCTION gate.fence_shared() RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp AS
    $$ SELECT pg_advisory_xact_lock_shared(4840311976251041) $$;

CREATE FUNCTION gate.next_revision() RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_revision bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(4840311976251041);
    UPDATE gate.state SET revision = revision + 1 RETURNING revision INTO STRICT v_revision;
    PERFORM pg_notify('gate_snapshot', v_revision::text);
    RETURN v_revision;
END $$;
