-- Policies: versioned, immutable documents, one of them active; and the workers that serve it.

CREATE TABLE gate.policies (
    version integer PRIMARY KEY CHECK (version > 0),
    name text NOT NULL,
    document text NOT NULL,
    digest bytea NOT NULL CHECK (octet_length(digest) = 32),
    based_on integer REFERENCES gate.policies,
    comment text,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TRIGGER policies_are_immutable BEFORE UPDATE OR DELETE ON gate.policies
    FOR EACH ROW EXECUTE FUNCTION gate.refuse_change();

CREATE TABLE gate.policy_activations (
    activation_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    version integer NOT NULL REFERENCES gate.policies,
    activated_at timestamptz NOT NULL,
    retired_at timestamptz,
    activated_by text NOT NULL,
    revision bigint NOT NULL
);
CREATE UNIQUE INDEX policy_activations_one_is_open ON gate.policy_activations ((retired_at IS NULL))
    WHERE retired_at IS NULL;

-- Stores a validated document as the next version and makes it the active one. p_expected_active guards a change that
-- was made on top of a version: CG412 where another has been published since.
CREATE FUNCTION gate.policy_publish(
    p_name text, p_document text, p_digest bytea, p_expected_active integer, p_comment text, p_actor text,
    p_request_id text
) RETURNS TABLE (version integer, revision bigint, activated_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_revision bigint := gate.next_revision();
    v_active integer;
    v_version integer;
    v_tier text;
    v_at timestamptz := clock_timestamp();
BEGIN
    SELECT policy_version INTO v_active FROM gate.state;
    IF p_expected_active IS NOT NULL AND v_active IS DISTINCT FROM p_expected_active THEN
        RAISE EXCEPTION 'policy version % is active, not %', v_active, p_expected_active USING ERRCODE = 'CG412';
    END IF;
    IF sha256(convert_to(p_document, 'UTF8')) <> p_digest THEN
        RAISE EXCEPTION 'the digest is not that of the document' USING ERRCODE = 'CG422';
    END IF;
    SELECT a.tier INTO v_tier
    FROM gate.tier_assignments a JOIN gate.scopes USING (scope_id) JOIN gate.channels c USING (channel_id)
    WHERE c.state <> 'exited' AND (upper_inf(a.valid) OR upper(a.valid) > v_at)
      AND NOT p_document::jsonb -> 'tiers' @> jsonb_build_array(jsonb_build_object('code', a.tier))
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'channels are assigned to the tier %, which the policy does not have', v_tier
            USING ERRCODE = 'CG409';
    END IF;
    SELECT coalesce(max(p.version), 0) + 1 INTO v_version FROM gate.policies p;
    INSERT INTO gate.policies (version, name, document, digest, based_on, comment, created_by)
    VALUES (v_version, p_name, p_document, p_digest, v_active, p_comment, p_actor);
    UPDATE gate.policy_activations SET retired_at = v_at WHERE retired_at IS NULL;
    INSERT INTO gate.policy_activations (version, activated_at, activated_by, revision)
    VALUES (v_version, v_at, p_actor, v_revision);
    UPDATE gate.state SET policy_version = v_version;
    PERFORM gate.audit_append(
        p_actor, 'policy.publish', v_version::text, jsonb_build_object('active', v_active),
        jsonb_build_object('active', v_version, 'name', p_name, 'digest', encode(p_digest, 'hex')),
        p_comment, p_request_id);
    RETURN QUERY SELECT v_version, v_revision, v_at;
END $$;

-- One row a worker process: what it serves and until when it counts as alive.
CREATE UNLOGGED TABLE gate.workers (
    worker_id uuid PRIMARY KEY,
    host text NOT NULL,
    pid integer NOT NULL,
    engine text NOT NULL,
    started_at timestamptz NOT NULL,
    snapshot_revision bigint NOT NULL,
    policy_version integer,
    seen_at timestamptz NOT NULL,
    lease_until timestamptz NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

-- A worker says what it serves and learns what is current. A null lease says goodbye.
CREATE FUNCTION gate.worker_beat(
    p_worker_id uuid, p_host text, p_pid integer, p_engine text, p_started_at timestamptz, p_snapshot_revision bigint,
    p_policy_version integer, p_lease interval
) RETURNS TABLE (revision bigint, policy_version integer, live_workers integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    IF p_lease IS NULL THEN
        DELETE FROM gate.workers WHERE worker_id = p_worker_id;
    ELSE
        INSERT INTO gate.workers AS w VALUES (p_worker_id, p_host, p_pid, p_engine, p_started_at, p_snapshot_revision,
                                              p_policy_version, now(), now() + p_lease)
        ON CONFLICT (worker_id) DO UPDATE
        SET snapshot_revision = excluded.snapshot_revision, policy_version = excluded.policy_version,
            seen_at = excluded.seen_at, lease_until = excluded.lease_until;
        DELETE FROM gate.workers WHERE lease_until < now() - interval '1 hour';
    END IF;
    RETURN QUERY SELECT s.revision, s.policy_version,
                        (SELECT count(*)::integer FROM gate.workers WHERE lease_until > now())
                 FROM gate.state s;
END $$;

SELECT gate.forbid_truncate('gate.policies', 'gate.policy_activations');
