-- One person changes the active policy at once, says why, and for how long: unless a second person confirms it, the
-- policy before comes back.

CREATE TABLE gate.break_glass (
    break_glass_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('open', 'confirmed', 'reverted', 'superseded')),
    version integer NOT NULL REFERENCES gate.policies,
    returns_to integer NOT NULL REFERENCES gate.policies,
    reason text NOT NULL,
    person_id text NOT NULL REFERENCES gate.persons,
    nonce text NOT NULL,
    opened_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    confirmed_by text REFERENCES gate.persons,
    ended_at timestamptz,
    ended_by text,
    CONSTRAINT break_glass_two_persons CHECK (confirmed_by <> person_id),
    CONSTRAINT break_glass_expires CHECK (expires_at > opened_at),
    CONSTRAINT break_glass_ends CHECK ((state = 'open') = (ended_at IS NULL)),
    CONSTRAINT break_glass_confirmed CHECK ((state = 'confirmed') = (confirmed_by IS NOT NULL))
);
CREATE UNIQUE INDEX break_glass_one_is_open ON gate.break_glass (state) WHERE state = 'open';

CREATE FUNCTION gate.only_end_break_glass() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' OR OLD.state <> 'open'
       OR to_jsonb(OLD) - '{state,confirmed_by,ended_at,ended_by}'::text[]
          <> to_jsonb(NEW) - '{state,confirmed_by,ended_at,ended_by}'::text[]
    THEN
        RAISE EXCEPTION 'a break-glass is only ever ended' USING ERRCODE = 'CG403';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER break_glass_is_only_ended BEFORE UPDATE OR DELETE ON gate.break_glass
    FOR EACH ROW EXECUTE FUNCTION gate.only_end_break_glass();

-- The person signs the document and the end: `break-glass`, `policy`, a nonce of their own, the moment it expires.
CREATE FUNCTION gate.break_glass_open(
    p_person_id text, p_nonce text, p_name text, p_document text, p_digest bytea, p_expected_active integer,
    p_expires_at timestamptz, p_reason text, p_proof bytea, p_actor text, p_request_id text
) RETURNS gate.break_glass LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_row gate.break_glass;
    v_before integer;
    v_version integer;
    v_hours integer;
BEGIN
    PERFORM gate.fence_policies();
    PERFORM gate.require_text('a reason', p_reason);
    PERFORM gate.require_document(p_name, p_document, p_digest);
    SELECT break_glass_hours_max INTO v_hours FROM gate.governance;
    SELECT policy_version INTO v_before FROM gate.state;
    IF v_before IS NULL THEN
        RAISE EXCEPTION 'there is no policy to return to' USING ERRCODE = 'CG409';
    ELSIF EXISTS (SELECT FROM gate.break_glass WHERE state = 'open') THEN
        RAISE EXCEPTION 'a break-glass is open: confirm or end it first' USING ERRCODE = 'CG409';
    ELSIF p_expires_at IS NULL OR p_expires_at <= clock_timestamp()
          OR p_expires_at > clock_timestamp() + make_interval(hours => v_hours) THEN
        RAISE EXCEPTION 'a break-glass expires within % hours', v_hours USING ERRCODE = 'CG422';
    END IF;
    PERFORM gate.require_signature(p_person_id, ARRAY['policy-author', 'policy-approver'], 'break-glass', 'policy',
                                   p_nonce, p_digest, NULL, p_expires_at, NULL, p_proof);
    SELECT m.version INTO STRICT v_version
    FROM gate.policy_make_active(p_name, p_document, p_digest, p_expected_active, p_reason, p_actor, p_request_id) m;
    INSERT INTO gate.break_glass (state, version, returns_to, reason, person_id, nonce, opened_at, expires_at)
    VALUES ('open', v_version, v_before, p_reason, p_person_id, p_nonce, clock_timestamp(), p_expires_at)
    RETURNING * INTO v_row;
    PERFORM gate.audit_append(p_actor, 'break_glass.open', v_row.break_glass_id::text,
                              jsonb_build_object('active', v_before), to_jsonb(v_row), p_reason, p_request_id);
    RETURN v_row;
END $$;

CREATE FUNCTION gate.break_glass_locked(p_break_glass_id integer) RETURNS gate.break_glass
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_row gate.break_glass;
BEGIN
    SELECT * INTO v_row FROM gate.break_glass WHERE break_glass_id = p_break_glass_id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no such break-glass' USING ERRCODE = 'CG404';
    ELSIF v_row.state <> 'open' THEN
        RAISE EXCEPTION 'the break-glass is % already', v_row.state USING ERRCODE = 'CG409';
    END IF;
    RETURN v_row;
END $$;

-- A second person signs the document that is active: `confirm`, `break-glass/<id>`, its nonce.
CREATE FUNCTION gate.break_glass_confirm(
    p_break_glass_id integer, p_person_id text, p_digest bytea, p_comment text, p_proof bytea, p_actor text,
    p_request_id text
) RETURNS gate.break_glass LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_before gate.break_glass;
    v_after gate.break_glass;
BEGIN
    PERFORM gate.fence_policies();
    v_before := gate.break_glass_locked(p_break_glass_id);
    IF p_person_id = v_before.person_id THEN
        RAISE EXCEPTION 'who broke the glass does not confirm it' USING ERRCODE = 'CG403';
    ELSIF p_digest IS DISTINCT FROM (SELECT digest FROM gate.policies WHERE version = v_before.version) THEN
        RAISE EXCEPTION 'the document of the break-glass is another one' USING ERRCODE = 'CG412';
    ELSIF v_before.expires_at <= clock_timestamp() THEN
        RAISE EXCEPTION 'the break-glass has expired' USING ERRCODE = 'CG409';
    END IF;
    PERFORM gate.require_signature(p_person_id, ARRAY['policy-approver'], 'confirm', 'break-glass/' || p_break_glass_id,
                                   v_before.nonce, p_digest, NULL, NULL, NULL, p_proof);
    UPDATE gate.break_glass
    SET state = 'confirmed', confirmed_by = p_person_id, ended_at = clock_timestamp(), ended_by = p_actor
    WHERE break_glass_id = p_break_glass_id RETURNING * INTO v_after;
    PERFORM gate.audit_append(p_actor, 'break_glass.confirm', p_break_glass_id::text, to_jsonb(v_before),
                              to_jsonb(v_after), p_comment, p_request_id);
    RETURN v_after;
END $$;

-- Brings the policy before back: at the end of its time, or earlier by anybody who may write policies. What comes back
-- was approved, so it takes no signature.
CREATE FUNCTION gate.break_glass_end(p_break_glass_id integer, p_reason text, p_actor text, p_request_id text)
RETURNS gate.break_glass LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_before gate.break_glass;
    v_after gate.break_glass;
    v_policy gate.policies;
BEGIN
    PERFORM gate.fence_policies();
    PERFORM gate.require_text('a reason', p_reason);
    v_before := gate.break_glass_locked(p_break_glass_id);
    UPDATE gate.break_glass SET state = 'reverted', ended_at = clock_timestamp(), ended_by = p_actor
    WHERE break_glass_id = p_break_glass_id RETURNING * INTO v_after;
    SELECT * INTO STRICT v_policy FROM gate.policies WHERE version = v_before.returns_to;
    PERFORM FROM gate.policy_make_active(v_policy.name, v_policy.document, v_policy.digest, v_before.version, p_reason,
                                         p_actor, p_request_id);
    PERFORM gate.audit_append(p_actor, 'break_glass.end', p_break_glass_id::text, to_jsonb(v_before),
                              to_jsonb(v_after), p_reason, p_request_id);
    RETURN v_after;
END $$;

SELECT gate.forbid_truncate('gate.break_glass');
