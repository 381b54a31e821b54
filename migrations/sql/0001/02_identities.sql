-- Who may call: originators, and the API keys that are mapped to them. Only hashes of secrets are kept.

CREATE TABLE gate.originators (
    originator_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code text NOT NULL UNIQUE CHECK (code ~ '^[A-Za-z0-9._-]{1,64}$'),
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    revision bigint NOT NULL
);

CREATE TABLE gate.api_keys (
    key_id text PRIMARY KEY CHECK (key_id ~ '^[A-Za-z0-9]{4,32}$'),
    originator_id integer REFERENCES gate.originators,
    person_id text,
    secret_hash bytea NOT NULL CHECK (octet_length(secret_hash) = 32),
    label text NOT NULL,
    roles text[] NOT NULL CHECK (cardinality(roles) > 0),
    rate_limit_per_second integer CHECK (rate_limit_per_second > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    revision bigint NOT NULL
);

CREATE FUNCTION gate.originator_register(p_code text, p_name text, p_actor text, p_request_id text)
RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_id integer;
    v_revision bigint := gate.next_revision();
BEGIN
    SELECT originator_id INTO v_id FROM gate.originators WHERE code = p_code;
    IF FOUND THEN
        RETURN v_id;
    END IF;
    INSERT INTO gate.originators (code, name, revision) VALUES (p_code, p_name, v_revision)
    RETURNING originator_id INTO v_id;
    PERFORM gate.audit_append(p_actor, 'originator.register', p_code, NULL,
                              jsonb_build_object('name', p_name), NULL, p_request_id);
    RETURN v_id;
END $$;

CREATE FUNCTION gate.api_key_create(
    p_key_id text, p_originator_code text, p_person_id text, p_secret_hash bytea, p_label text, p_roles text[],
    p_rate_limit integer, p_expires_at timestamptz, p_actor text, p_request_id text
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_originator_id integer;
    v_revision bigint := gate.next_revision();
BEGIN
    IF p_originator_code IS NOT NULL THEN
        SELECT originator_id INTO v_originator_id FROM gate.originators WHERE code = p_originator_code;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'no originator has the code %', p_originator_code USING ERRCODE = 'CG404';
        END IF;
    END IF;
    INSERT INTO gate.api_keys (key_id, originator_id, person_id, secret_hash, label, roles, rate_limit_per_second,
                               expires_at, revision)
    VALUES (p_key_id, v_originator_id, p_person_id, p_secret_hash, p_label, p_roles, p_rate_limit, p_expires_at,
            v_revision);
    PERFORM gate.audit_append(
        p_actor, 'api_key.create', p_key_id, NULL,
        jsonb_build_object('originator', p_originator_code, 'person_id', p_person_id, 'label', p_label,
                           'roles', p_roles, 'rate_limit_per_second', p_rate_limit, 'expires_at', p_expires_at),
        NULL, p_request_id);
END $$;

-- Ends a key at p_at, which may lie ahead so that a rotation overlaps. False where it already ends no later.
CREATE FUNCTION gate.api_key_revoke(p_key_id text, p_at timestamptz, p_actor text, p_reason text, p_request_id text)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_before timestamptz;
    v_revision bigint := gate.next_revision();
BEGIN
    SELECT revoked_at INTO v_before FROM gate.api_keys WHERE key_id = p_key_id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no API key has the id %', p_key_id USING ERRCODE = 'CG404';
    END IF;
    IF v_before <= p_at THEN
        RETURN false;
    END IF;
    UPDATE gate.api_keys SET revoked_at = p_at, revision = v_revision WHERE key_id = p_key_id;
    PERFORM gate.audit_append(p_actor, 'api_key.revoke', p_key_id, jsonb_build_object('revoked_at', v_before),
                              jsonb_build_object('revoked_at', p_at), p_reason, p_request_id);
    RETURN true;
END $$;

SELECT gate.forbid_truncate('gate.originators', 'gate.api_keys');
