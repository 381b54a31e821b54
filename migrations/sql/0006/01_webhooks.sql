-- Where originators want to be told, and how it is signed.

-- What can be told. A feature that tells something new adds its kind here.
CREATE TABLE gate.event_kinds (
    kind text PRIMARY KEY CHECK (kind ~ '^[a-z_]{1,32}\.[a-z_]{1,32}$')
);
INSERT INTO gate.event_kinds VALUES
    ('channel.state_changed'), ('decision.resolved'), ('reservation.expired'), ('reservation.lapsed');

CREATE TABLE gate.webhook_endpoints (
    endpoint_id uuid PRIMARY KEY,
    originator_id integer NOT NULL REFERENCES gate.originators,
    url text NOT NULL CHECK (url ~ '^https?://' AND length(url) <= 2000),
    kinds text[] CHECK (cardinality(kinds) > 0),
    description text,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    disabled_by text,
    disabled_at timestamptz
);
CREATE INDEX webhook_endpoints_originator ON gate.webhook_endpoints (originator_id);

-- A secret is derived from the salt and a key that only the service's processes have. The row alone signs nothing.
CREATE TABLE gate.webhook_secrets (
    endpoint_id uuid NOT NULL REFERENCES gate.webhook_endpoints,
    number integer NOT NULL CHECK (number > 0),
    salt bytea NOT NULL CHECK (octet_length(salt) = 32),
    key_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    ends_at timestamptz,
    PRIMARY KEY (endpoint_id, number)
);

CREATE FUNCTION gate.webhook_create(
    p_endpoint_id uuid, p_originator text, p_url text, p_kinds text[], p_description text, p_salt bytea, p_key_id text,
    p_actor text, p_request_id text
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_originator_id integer;
BEGIN
    SELECT originator_id INTO v_originator_id FROM gate.originators WHERE code = p_originator;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no originator has this code' USING ERRCODE = 'CG404';
    END IF;
    IF EXISTS (SELECT FROM unnest(p_kinds) AS asked WHERE asked NOT IN (SELECT kind FROM gate.event_kinds)) THEN
        RAISE EXCEPTION 'there is no such kind of event' USING ERRCODE = 'CG422';
    END IF;
    INSERT INTO gate.webhook_endpoints (endpoint_id, originator_id, url, kinds, description, created_by)
    VALUES (p_endpoint_id, v_originator_id, p_url, p_kinds, p_description, p_actor);
    INSERT INTO gate.webhook_secrets (endpoint_id, number, salt, key_id) VALUES (p_endpoint_id, 1, p_salt, p_key_id);
    PERFORM gate.audit_append(
        p_actor, 'webhook.create', p_endpoint_id::text, NULL,
        jsonb_build_object('originator', p_originator, 'url', p_url, 'kinds', p_kinds, 'description', p_description),
        NULL, p_request_id);
END $$;

CREATE FUNCTION gate.webhook_enabled(p_endpoint_id uuid) RETURNS gate.webhook_endpoints
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_endpoint gate.webhook_endpoints;
BEGIN
    SELECT * INTO v_endpoint FROM gate.webhook_endpoints WHERE endpoint_id = p_endpoint_id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no such webhook' USING ERRCODE = 'CG404';
    END IF;
    IF v_endpoint.disabled_at IS NOT NULL THEN
        RAISE EXCEPTION 'the webhook is disabled' USING ERRCODE = 'CG409';
    END IF;
    RETURN v_endpoint;
END $$;

-- A new secret; those before it sign beside it until the overlap ends, and never longer than they were to.
CREATE FUNCTION gate.webhook_rotate(
    p_endpoint_id uuid, p_salt bytea, p_key_id text, p_overlap interval, p_actor text, p_reason text, p_request_id text
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_endpoint gate.webhook_endpoints := gate.webhook_enabled(p_endpoint_id);
    v_number integer;
BEGIN
    IF p_overlap < interval '0' THEN
        RAISE EXCEPTION 'an overlap cannot be negative' USING ERRCODE = 'CG422';
    END IF;
    UPDATE gate.webhook_secrets SET ends_at = least(ends_at, now() + p_overlap) WHERE endpoint_id = p_endpoint_id;
    SELECT max(number) + 1 INTO v_number FROM gate.webhook_secrets WHERE endpoint_id = p_endpoint_id;
    INSERT INTO gate.webhook_secrets (endpoint_id, number, salt, key_id)
    VALUES (p_endpoint_id, v_number, p_salt, p_key_id);
    PERFORM gate.audit_append(
        p_actor, 'webhook.rotate', p_endpoint_id::text, NULL,
        jsonb_build_object('secret', v_number, 'others_end_at', now() + p_overlap), p_reason, p_request_id);
END $$;

SELECT gate.forbid_truncate('gate.event_kinds', 'gate.webhook_endpoints', 'gate.webhook_secrets');
