-- The named list of channels, and which tier each of their scopes had, from when to when.

CREATE TABLE gate.channels (
    channel_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code text NOT NULL UNIQUE CHECK (code ~ '^[A-Za-z0-9._-]{1,64}$'),
    name text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('online', 'offline', 'intermediary', 'social')),
    state text NOT NULL CHECK (state IN ('proposed', 'probation', 'active', 'suspended', 'exited')),
    owner text NOT NULL,
    agreement_id text,
    services text[] NOT NULL DEFAULT '{}',
    valid_from timestamptz NOT NULL,
    valid_to timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    revision bigint NOT NULL,
    CONSTRAINT channels_validity CHECK (valid_to IS NULL OR valid_to > valid_from)
);
CREATE INDEX channels_revision ON gate.channels (revision);

-- Other tags that mean the same channel. An alias never equals a channel's code, nor a code an alias (see the functions).
CREATE TABLE gate.channel_aliases (
    alias text PRIMARY KEY CHECK (alias ~ '^[A-Za-z0-9._-]{1,64}$'),
    channel_id integer NOT NULL REFERENCES gate.channels,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX channel_aliases_channel ON gate.channel_aliases (channel_id);

CREATE TABLE gate.channel_state_changes (
    change_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel_id integer NOT NULL REFERENCES gate.channels,
    state_before text,
    state_after text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    actor text NOT NULL,
    reason text
);
CREATE INDEX channel_state_changes_channel ON gate.channel_state_changes (channel_id, at);

-- A scope is (channel, product, jurisdiction); null means any. Its number lets an exclusion constraint compare
-- scopes as int4range, which needs no extension.
CREATE TABLE gate.scopes (
    scope_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel_id integer NOT NULL REFERENCES gate.channels,
    product text,
    jurisdiction text,
    CONSTRAINT scopes_are_distinct UNIQUE NULLS NOT DISTINCT (channel_id, product, jurisdiction)
);

CREATE TABLE gate.tier_assignments (
    assignment_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope_id integer NOT NULL REFERENCES gate.scopes,
    tier text NOT NULL,
    valid tstzrange NOT NULL,
    cause text NOT NULL CHECK (cause IN ('initial', 'manual', 'retiering', 'probation')),
    reason text,
    assigned_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT tier_assignments_half_open CHECK (
        NOT isempty(valid) AND NOT lower_inf(valid) AND lower_inc(valid) AND NOT upper_inc(valid)),
    CONSTRAINT tier_assignments_do_not_overlap
        EXCLUDE USING gist (int4range(scope_id, scope_id, '[]') WITH &&, valid WITH &&)
);
CREATE INDEX tier_assignments_scope ON gate.tier_assignments (scope_id);

-- The only change ever made to an assignment is that its open end is closed.
CREATE FUNCTION gate.only_close_assignment() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND upper_inf(OLD.valid) AND NOT upper_inf(NEW.valid)
       AND (OLD.assignment_id, OLD.scope_id, OLD.tier, lower(OLD.valid), OLD.cause, OLD.reason, OLD.assigned_by, OLD.created_at)
           IS NOT DISTINCT FROM
           (NEW.assignment_id, NEW.scope_id, NEW.tier, lower(NEW.valid), NEW.cause, NEW.reason, NEW.assigned_by, NEW.created_at)
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'a tier assignment may only have its open end closed' USING ERRCODE = 'CG403';
END $$;
CREATE TRIGGER tier_assignments_are_immutable BEFORE UPDATE OR DELETE ON gate.tier_assignments
    FOR EACH ROW EXECUTE FUNCTION gate.only_close_assignment();

CREATE FUNCTION gate.channel_by_code(p_code text) RETURNS gate.channels
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_channel gate.channels;
BEGIN
    SELECT * INTO v_channel FROM gate.channels WHERE code = p_code FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no channel has this code' USING ERRCODE = 'CG404';
    END IF;
    RETURN v_channel;
END $$;

CREATE FUNCTION gate.channel_register(
    p_code text, p_name text, p_kind text, p_state text, p_owner text, p_agreement_id text, p_services text[],
    p_valid_from timestamptz, p_valid_to timestamptz, p_actor text, p_reason text, p_request_id text
) RETURNS gate.channels LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_channel gate.channels;
    v_revision bigint := gate.next_revision();
BEGIN
    IF EXISTS (SELECT FROM gate.channel_aliases WHERE alias = p_code) THEN
        RAISE EXCEPTION 'the code is an alias of another channel' USING ERRCODE = 'CG409';
    END IF;
    IF EXISTS (SELECT FROM gate.channels WHERE code = p_code) THEN
        RAISE EXCEPTION 'a channel has this code already' USING ERRCODE = 'CG409';
    END IF;
    INSERT INTO gate.channels (code, name, kind, state, owner, agreement_id, services, valid_from, valid_to, revision)
    VALUES (p_code, p_name, p_kind, p_state, p_owner, p_agreement_id, coalesce(p_services, '{}'), p_valid_from,
            p_valid_to, v_revision)
    RETURNING * INTO v_channel;
    INSERT INTO gate.channel_state_changes (channel_id, state_after, actor, reason)
    VALUES (v_channel.channel_id, p_state, p_actor, p_reason);
    PERFORM gate.audit_append(p_actor, 'channel.register', p_code, NULL, to_jsonb(v_channel), p_reason, p_request_id);
    RETURN v_channel;
END $$;

-- p_changes holds any of name, owner, agreement_id, services, valid_from, valid_to; a null clears.
CREATE FUNCTION gate.channel_amend(
    p_code text, p_changes jsonb, p_expected_revision bigint, p_actor text, p_reason text, p_request_id text
) RETURNS gate.channels LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_revision bigint := gate.next_revision();
    v_before gate.channels := gate.channel_by_code(p_code);
    v_after gate.channels;
BEGIN
    IF p_expected_revision IS NOT NULL AND v_before.revision <> p_expected_revision THEN
        RAISE EXCEPTION 'the channel has changed since it was read' USING ERRCODE = 'CG412';
    END IF;
    IF p_changes - ARRAY['name', 'owner', 'agreement_id', 'services', 'valid_from', 'valid_to'] <> '{}'::jsonb THEN
        RAISE EXCEPTION 'only name, owner, agreement, services and validity can be amended' USING ERRCODE = 'CG422';
    END IF;
    v_after := jsonb_populate_record(v_before, p_changes);
    UPDATE gate.channels
    SET name = v_after.name, owner = v_after.owner, agreement_id = v_after.agreement_id, services = v_after.services,
        valid_from = v_after.valid_from, valid_to = v_after.valid_to, updated_at = now(), revision = v_revision
    WHERE channel_id = v_before.channel_id
    RETURNING * INTO v_after;
    PERFORM gate.audit_append(p_actor, 'channel.amend', p_code, to_jsonb(v_before), to_jsonb(v_after), p_reason,
                              p_request_id);
    RETURN v_after;
END $$;

CREATE FUNCTION gate.channel_set_state(
    p_code text, p_state text, p_expected_revision bigint, p_actor text, p_reason text, p_request_id text
) RETURNS gate.channels LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_revision bigint := gate.next_revision();
    v_before gate.channels := gate.channel_by_code(p_code);
    v_after gate.channels;
BEGIN
    IF p_expected_revision IS NOT NULL AND v_before.revision <> p_expected_revision THEN
        RAISE EXCEPTION 'the channel has changed since it was read' USING ERRCODE = 'CG412';
    END IF;
    IF NOT (v_before.state, p_state) IN (
        ('proposed', 'probation'), ('proposed', 'exited'),
        ('probation', 'active'), ('probation', 'suspended'), ('probation', 'exited'),
        ('active', 'probation'), ('active', 'suspended'), ('active', 'exited'),
        ('suspended', 'probation'), ('suspended', 'active'), ('suspended', 'exited'))
    THEN
        RAISE EXCEPTION 'a channel cannot move from % to %', v_before.state, p_state USING ERRCODE = 'CG409';
    END IF;
    UPDATE gate.channels SET state = p_state, updated_at = now(), revision = v_revision
    WHERE channel_id = v_before.channel_id
    RETURNING * INTO v_after;
    INSERT INTO gate.channel_state_changes (channel_id, state_before, state_after, actor, reason)
    VALUES (v_after.channel_id, v_before.state, p_state, p_actor, p_reason);
    PERFORM gate.audit_append(p_actor, 'channel.state', p_code, jsonb_build_object('state', v_before.state),
                              jsonb_build_object('state', p_state), p_reason, p_request_id);
    RETURN v_after;
END $$;

CREATE FUNCTION gate.channel_alias_put(p_code text, p_alias text, p_actor text, p_request_id text)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_revision bigint := gate.next_revision();
    v_channel gate.channels := gate.channel_by_code(p_code);
    v_holder integer;
BEGIN
    IF EXISTS (SELECT FROM gate.channels WHERE code = p_alias) THEN
        RAISE EXCEPTION 'the alias is the code of a channel' USING ERRCODE = 'CG409';
    END IF;
    SELECT channel_id INTO v_holder FROM gate.channel_aliases WHERE alias = p_alias;
    IF v_holder = v_channel.channel_id THEN
        RETURN;
    ELSIF FOUND THEN
        RAISE EXCEPTION 'the alias belongs to another channel' USING ERRCODE = 'CG409';
    END IF;
    INSERT INTO gate.channel_aliases (alias, channel_id) VALUES (p_alias, v_channel.channel_id);
    UPDATE gate.channels SET updated_at = now(), revision = v_revision WHERE channel_id = v_channel.channel_id;
    PERFORM gate.audit_append(p_actor, 'channel.alias_put', p_code, NULL, jsonb_build_object('alias', p_alias), NULL,
                              p_request_id);
END $$;

CREATE FUNCTION gate.channel_alias_remove(p_code text, p_alias text, p_actor text, p_request_id text)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_revision bigint := gate.next_revision();
    v_channel gate.channels := gate.channel_by_code(p_code);
BEGIN
    DELETE FROM gate.channel_aliases WHERE alias = p_alias AND channel_id = v_channel.channel_id;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE gate.channels SET updated_at = now(), revision = v_revision WHERE channel_id = v_channel.channel_id;
    PERFORM gate.audit_append(p_actor, 'channel.alias_remove', p_code, jsonb_build_object('alias', p_alias), NULL, NULL,
                              p_request_id);
    RETURN true;
END $$;

-- Whether the active policy names the tier. Before the first policy every tier may be assigned: publishing checks them.
CREATE FUNCTION gate.tier_is_known(p_tier text) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_document jsonb;
BEGIN
    SELECT p.document::jsonb INTO v_document
    FROM gate.state s JOIN gate.policies p ON p.version = s.policy_version;
    RETURN NOT FOUND OR v_document -> 'tiers' @> jsonb_build_array(jsonb_build_object('code', p_tier));
END $$;

-- Gives a scope its tier over [p_from, p_to). An assignment that is open at p_from is closed there; any other overlap
-- is refused. History is not rewritten: p_from lies at most five minutes back, but for a scope's first assignment.
CREATE FUNCTION gate.tier_assign(
    p_code text, p_product text, p_jurisdiction text, p_tier text, p_from timestamptz, p_to timestamptz,
    p_cause text, p_reason text, p_actor text, p_request_id text
) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_revision bigint := gate.next_revision();
    v_channel gate.channels := gate.channel_by_code(p_code);
    v_scope_id integer;
    v_before text;
    v_id bigint;
BEGIN
    IF NOT gate.tier_is_known(p_tier) THEN
        RAISE EXCEPTION 'the active policy has no such tier' USING ERRCODE = 'CG422';
    END IF;
    SELECT scope_id INTO v_scope_id FROM gate.scopes
    WHERE channel_id = v_channel.channel_id AND product IS NOT DISTINCT FROM p_product
      AND jurisdiction IS NOT DISTINCT FROM p_jurisdiction;
    IF NOT FOUND THEN
        INSERT INTO gate.scopes (channel_id, product, jurisdiction)
        VALUES (v_channel.channel_id, p_product, p_jurisdiction) RETURNING scope_id INTO v_scope_id;
    END IF;
    IF p_from < now() - interval '5 minutes'
       AND (p_cause <> 'initial' OR EXISTS (SELECT FROM gate.tier_assignments WHERE scope_id = v_scope_id))
    THEN
        RAISE EXCEPTION 'a tier cannot be assigned to the past' USING ERRCODE = 'CG422';
    END IF;
    UPDATE gate.tier_assignments SET valid = tstzrange(lower(valid), p_from, '[)')
    WHERE scope_id = v_scope_id AND upper_inf(valid) AND lower(valid) < p_from
    RETURNING tier INTO v_before;
    INSERT INTO gate.tier_assignments (scope_id, tier, valid, cause, reason, assigned_by)
    VALUES (v_scope_id, p_tier, tstzrange(p_from, p_to, '[)'), p_cause, p_reason, p_actor)
    RETURNING assignment_id INTO v_id;
    UPDATE gate.channels SET updated_at = now(), revision = v_revision WHERE channel_id = v_channel.channel_id;
    PERFORM gate.audit_append(
        p_actor, 'tier.assign', p_code, jsonb_build_object('tier', v_before),
        jsonb_build_object('tier', p_tier, 'product', p_product, 'jurisdiction', p_jurisdiction, 'from', p_from,
                           'to', p_to, 'cause', p_cause),
        p_reason, p_request_id);
    RETURN v_id;
END $$;

-- Which tier a channel had for a product and jurisdiction at a moment: the most specific scope wins.
CREATE FUNCTION gate.tier_at(p_code text, p_product text, p_jurisdiction text, p_at timestamptz)
RETURNS TABLE (assignment_id bigint, product text, jurisdiction text, tier text, valid_from timestamptz,
               valid_to timestamptz, cause text, reason text, assigned_by text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT a.assignment_id, s.product, s.jurisdiction, a.tier, lower(a.valid), upper(a.valid), a.cause, a.reason,
           a.assigned_by
    FROM gate.channels c
    JOIN gate.scopes s USING (channel_id)
    JOIN gate.tier_assignments a USING (scope_id)
    WHERE c.code = p_code AND a.valid @> p_at
      AND (s.product IS NULL OR s.product = p_product)
      AND (s.jurisdiction IS NULL OR s.jurisdiction = p_jurisdiction)
    ORDER BY s.product IS NOT NULL DESC, s.jurisdiction IS NOT NULL DESC
    LIMIT 1
$$;

SELECT gate.forbid_truncate('gate.channels', 'gate.channel_state_changes', 'gate.scopes', 'gate.tier_assignments');
