-- Changes that two persons make together: one asks, another approves, and the database carries it out.

-- What can be asked for, and which function of this schema carries it out:
-- (subject, payload, reason, change_id, actor, request_id). A later migration adds kinds.
CREATE TABLE gate.change_kinds (
    kind text PRIMARY KEY,
    carried_out_by text NOT NULL
);
INSERT INTO gate.change_kinds VALUES ('channel.state', 'apply_channel_state'), ('tier.assign', 'apply_tier');

CREATE TABLE gate.change_requests (
    change_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL REFERENCES gate.change_kinds,
    subject text NOT NULL,
    payload text NOT NULL,
    digest bytea NOT NULL CHECK (octet_length(digest) = 32),
    reason text NOT NULL,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'applied', 'rejected', 'withdrawn')),
    requested_by text NOT NULL REFERENCES gate.persons,
    requested_at timestamptz NOT NULL,
    nonce text NOT NULL,
    approved_by text REFERENCES gate.persons,
    closed_by text,
    closed_at timestamptz,
    closing_note text,
    CONSTRAINT change_requests_two_persons CHECK (approved_by <> requested_by),
    CONSTRAINT change_requests_approved CHECK ((state = 'applied') = (approved_by IS NOT NULL)),
    CONSTRAINT change_requests_closed CHECK ((state = 'pending') = (closed_at IS NULL))
);
CREATE INDEX change_requests_pending ON gate.change_requests (change_id) WHERE state = 'pending';

CREATE FUNCTION gate.only_close_request() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' OR OLD.state <> 'pending'
       OR to_jsonb(OLD) - '{state,approved_by,closed_by,closed_at,closing_note}'::text[]
          <> to_jsonb(NEW) - '{state,approved_by,closed_by,closed_at,closing_note}'::text[]
    THEN
        RAISE EXCEPTION 'a change request is only ever closed' USING ERRCODE = 'CG403';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER change_requests_are_only_closed BEFORE UPDATE OR DELETE ON gate.change_requests
    FOR EACH ROW EXECUTE FUNCTION gate.only_close_request();

-- Tiers that were given for a time. The assignment itself stays open, so that a demotion can end it at any moment; at
-- `expires_at` the tier that the scope had before goes on (null: what a wider scope or the policy says).
CREATE TABLE gate.tier_overrides (
    assignment_id bigint PRIMARY KEY REFERENCES gate.tier_assignments,
    change_id bigint NOT NULL REFERENCES gate.change_requests,
    tier_before text,
    cause_before text,
    expires_at timestamptz NOT NULL,
    ended_at timestamptz
);
CREATE INDEX tier_overrides_due ON gate.tier_overrides (expires_at) WHERE ended_at IS NULL;

-- The requester signs the payload: `request`, `<kind>:<subject>`, a nonce of their own.
CREATE FUNCTION gate.change_request(
    p_kind text, p_subject text, p_payload text, p_digest bytea, p_reason text, p_person_id text, p_nonce text,
    p_proof bytea, p_actor text, p_request_id text
) RETURNS gate.change_requests LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_row gate.change_requests;
BEGIN
    PERFORM gate.require_text('a reason', p_reason);
    IF NOT EXISTS (SELECT FROM gate.change_kinds WHERE kind = p_kind) THEN
        RAISE EXCEPTION 'there is no such kind of change' USING ERRCODE = 'CG422';
    ELSIF sha256(convert_to(p_payload, 'UTF8')) IS DISTINCT FROM p_digest OR jsonb_typeof(p_payload::jsonb) <> 'object' THEN
        RAISE EXCEPTION 'the digest is not that of the payload' USING ERRCODE = 'CG422';
    END IF;
    PERFORM gate.require_signature(p_person_id, ARRAY['admin'], 'request', p_kind || ':' || p_subject, p_nonce, p_digest,
                                   NULL, NULL, NULL, p_proof);
    INSERT INTO gate.change_requests (kind, subject, payload, digest, reason, requested_by, requested_at, nonce)
    VALUES (p_kind, p_subject, p_payload, p_digest, p_reason, p_person_id, clock_timestamp(), p_nonce)
    RETURNING * INTO v_row;
    PERFORM gate.audit_append(p_actor, 'change.request', v_row.change_id::text, NULL, gate.change_summary(v_row),
                              p_reason, p_request_id);
    RETURN v_row;
END $$;

CREATE FUNCTION gate.change_summary(p_row gate.change_requests) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_strip_nulls(to_jsonb(p_row) - ARRAY['payload', 'digest'])
           || jsonb_build_object('payload', p_row.payload::jsonb, 'digest', encode(p_row.digest, 'hex'))
$$;

CREATE FUNCTION gate.change_locked(p_change_id bigint) RETURNS gate.change_requests
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_row gate.change_requests;
BEGIN
    SELECT * INTO v_row FROM gate.change_requests WHERE change_id = p_change_id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no such change request' USING ERRCODE = 'CG404';
    ELSIF v_row.state <> 'pending' THEN
        RAISE EXCEPTION 'the change request is % already', v_row.state USING ERRCODE = 'CG409';
    END IF;
    RETURN v_row;
END $$;

-- Another person signs the same payload: `approve`, `request/<id>`, its nonce. The change is made in this transaction,
-- or the request stays pending and the refusal says why.
CREATE FUNCTION gate.change_approve(
    p_change_id bigint, p_person_id text, p_digest bytea, p_comment text, p_proof bytea, p_actor text, p_request_id text
) RETURNS gate.change_requests LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_before gate.change_requests;
    v_after gate.change_requests;
    v_function text;
BEGIN
    PERFORM gate.fence();
    v_before := gate.change_locked(p_change_id);
    IF v_before.digest IS DISTINCT FROM p_digest THEN
        RAISE EXCEPTION 'the change request asks for something else' USING ERRCODE = 'CG412';
    ELSIF p_person_id = v_before.requested_by THEN
        RAISE EXCEPTION 'who asks for a change does not approve it' USING ERRCODE = 'CG403';
    END IF;
    PERFORM gate.require_signature(p_person_id, ARRAY['policy-approver', 'admin'], 'approve', 'request/' || p_change_id,
                                   v_before.nonce, p_digest, NULL, NULL, NULL, p_proof);
    SELECT carried_out_by INTO STRICT v_function FROM gate.change_kinds WHERE kind = v_before.kind;
    UPDATE gate.change_requests
    SET state = 'applied', approved_by = p_person_id, closed_by = p_actor, closed_at = clock_timestamp(),
        closing_note = p_comment
    WHERE change_id = p_change_id RETURNING * INTO v_after;
    EXECUTE format('SELECT gate.%I($1, $2, $3, $4, $5, $6)', v_function)
    USING v_before.subject, v_before.payload::jsonb, v_before.reason, p_change_id, p_actor, p_request_id;
    PERFORM gate.audit_append(p_actor, 'change.approve', p_change_id::text, gate.change_summary(v_before),
                              gate.change_summary(v_after), p_comment, p_request_id);
    RETURN v_after;
END $$;

-- `rejected` by another, or `withdrawn` by who asked: it lets nothing through and is not signed.
CREATE FUNCTION gate.change_close(
    p_change_id bigint, p_state text, p_note text, p_actor text, p_request_id text
) RETURNS gate.change_requests LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_before gate.change_requests := gate.change_locked(p_change_id);
    v_after gate.change_requests;
BEGIN
    PERFORM gate.require_text('a reason', p_note);
    IF p_state NOT IN ('rejected', 'withdrawn') THEN
        RAISE EXCEPTION 'a change request is closed as rejected or withdrawn' USING ERRCODE = 'CG422';
    END IF;
    UPDATE gate.change_requests SET state = p_state, closed_by = p_actor, closed_at = clock_timestamp(), closing_note = p_note
    WHERE change_id = p_change_id RETURNING * INTO v_after;
    PERFORM gate.audit_append(
        p_actor, CASE p_state WHEN 'rejected' THEN 'change.reject' ELSE 'change.withdraw' END, p_change_id::text,
        gate.change_summary(v_before), gate.change_summary(v_after), p_note, p_request_id);
    RETURN v_after;
END $$;

-- {"from": state, "to": state}
CREATE FUNCTION gate.apply_channel_state(
    p_subject text, p_payload jsonb, p_reason text, p_change_id bigint, p_actor text, p_request_id text
) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_channel gate.channels := gate.channel_by_code(p_subject);
BEGIN
    IF v_channel.state IS DISTINCT FROM p_payload ->> 'from' THEN
        RAISE EXCEPTION 'the channel is % now', v_channel.state USING ERRCODE = 'CG409';
    END IF;
    PERFORM gate.channel_state_put(p_subject, p_payload ->> 'to', NULL, p_actor,
                                   format('%s (change request %s)', p_reason, p_change_id), p_request_id);
END $$;

-- {"tier", "product", "jurisdiction", "cause", "valid_to"}, from the approval on. An override (cause manual) has an end,
-- and what was before it goes on; any other assignment has none.
CREATE FUNCTION gate.apply_tier(
    p_subject text, p_payload jsonb, p_reason text, p_change_id bigint, p_actor text, p_request_id text
) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_cause text := p_payload ->> 'cause';
    v_end timestamptz := (p_payload ->> 'valid_to')::timestamptz;
    v_now timestamptz := clock_timestamp();
    v_before record;
    v_id bigint;
BEGIN
    IF (v_cause = 'manual') IS DISTINCT FROM (v_end IS NOT NULL) THEN
        RAISE EXCEPTION 'an override (manual) has an end, and another assignment has none' USING ERRCODE = 'CG422';
    ELSIF v_end <= v_now THEN
        RAISE EXCEPTION 'the override would have ended already' USING ERRCODE = 'CG409';
    END IF;
    SELECT a.assignment_id, a.tier, a.cause INTO v_before
    FROM gate.tier_assignments a JOIN gate.scopes s USING (scope_id) JOIN gate.channels c USING (channel_id)
    WHERE c.code = p_subject AND s.product IS NOT DISTINCT FROM p_payload ->> 'product'
      AND s.jurisdiction IS NOT DISTINCT FROM p_payload ->> 'jurisdiction' AND upper_inf(a.valid);
    IF EXISTS (SELECT FROM gate.tier_overrides o WHERE o.assignment_id = v_before.assignment_id AND o.ended_at IS NULL) THEN
        RAISE EXCEPTION 'the scope has an override already' USING ERRCODE = 'CG409';
    END IF;
    v_id := gate.tier_put(p_subject, p_payload ->> 'product', p_payload ->> 'jurisdiction', p_payload ->> 'tier',
                          v_now, NULL, v_cause, format('%s (change request %s)', p_reason, p_change_id), p_actor,
                          p_request_id);
    IF v_end IS NOT NULL THEN
        INSERT INTO gate.tier_overrides (assignment_id, change_id, tier_before, cause_before, expires_at)
        VALUES (v_id, p_change_id, v_before.tier, v_before.cause, v_end);
    END IF;
END $$;

-- Ends what has expired and is still in force; a demotion meanwhile has ended it already.
CREATE FUNCTION gate.tier_override_end(p_assignment_id bigint, p_actor text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_override gate.tier_overrides;
    v_held record;
    v_now timestamptz := clock_timestamp();
BEGIN
    UPDATE gate.tier_overrides SET ended_at = v_now WHERE assignment_id = p_assignment_id RETURNING * INTO STRICT v_override;
    SELECT a.tier, c.channel_id, c.code, s.product, s.jurisdiction INTO v_held
    FROM gate.tier_assignments a JOIN gate.scopes s USING (scope_id) JOIN gate.channels c USING (channel_id)
    WHERE a.assignment_id = p_assignment_id AND upper_inf(a.valid);
    IF NOT FOUND THEN
        RETURN;
    ELSIF v_override.tier_before IS NOT NULL AND gate.tier_is_known(v_override.tier_before) THEN
        PERFORM gate.tier_put(v_held.code, v_held.product, v_held.jurisdiction, v_override.tier_before, v_now, NULL,
                              v_override.cause_before, format('the override of change request %s is over',
                                                              v_override.change_id), p_actor, NULL);
        RETURN;
    END IF;
    UPDATE gate.channels SET updated_at = now(), revision = gate.next_revision() WHERE channel_id = v_held.channel_id;
    UPDATE gate.tier_assignments SET valid = tstzrange(lower(valid), v_now, '[)') WHERE assignment_id = p_assignment_id;
    PERFORM gate.audit_append(
        p_actor, 'tier.override_end', v_held.code, jsonb_build_object('tier', v_held.tier),
        jsonb_build_object('tier', NULL, 'product', v_held.product, 'jurisdiction', v_held.jurisdiction, 'from', v_now),
        format('the override of change request %s is over', v_override.change_id), NULL);
END $$;

SELECT gate.forbid_truncate('gate.change_requests', 'gate.tier_overrides');
