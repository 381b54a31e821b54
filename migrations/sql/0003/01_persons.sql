-- Who may sign for a change, and how the database knows that it was them. docs/governance.md is the threat model.

-- Only the owner changes this row (gate.governance_set): a service that was taken over cannot switch governance off.
CREATE TABLE gate.governance (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    single_person boolean NOT NULL DEFAULT true,
    report_required boolean NOT NULL DEFAULT true,
    break_glass_hours_max integer NOT NULL DEFAULT 24 CHECK (break_glass_hours_max BETWEEN 1 AND 168)
);
INSERT INTO gate.governance DEFAULT VALUES;

CREATE TABLE gate.persons (
    person_id text PRIMARY KEY CHECK (person_id ~ '^[!-~]{1,200}$'),
    name text NOT NULL,
    roles text[] NOT NULL CHECK (
        cardinality(roles) > 0 AND roles <@ ARRAY['policy-author', 'policy-approver', 'admin']),
    registered_at timestamptz NOT NULL DEFAULT now(),
    disabled_at timestamptz
);

-- No login of the service reads this table. stored_key = sha256(sha256(secret)): who reads it, in a backup say, cannot
-- sign. Failures are counted by a sequence for each person, since a sequence remembers what a rollback takes back.
CREATE TABLE gate.person_secrets (
    person_id text PRIMARY KEY REFERENCES gate.persons,
    number integer GENERATED ALWAYS AS IDENTITY,
    stored_key bytea NOT NULL CHECK (octet_length(stored_key) = 32),
    changed_at timestamptz NOT NULL DEFAULT now()
);

-- What was signed. The proof itself is never kept: with the stored key it would give the person's key away.
CREATE TABLE gate.signatures (
    signature_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    person_id text NOT NULL REFERENCES gate.persons,
    act text NOT NULL,
    subject text NOT NULL,
    message text NOT NULL,
    proof_hash bytea NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT signatures_are_used_once UNIQUE (proof_hash)
);
CREATE TRIGGER signatures_are_immutable BEFORE UPDATE OR DELETE ON gate.signatures
    FOR EACH ROW EXECUTE FUNCTION gate.refuse_change();

-- HMAC-SHA-256 (RFC 2104) for keys of at most 64 bytes: PostgreSQL has sha256 and no extension is asked for.
CREATE FUNCTION gate.hmac_sha256(p_key bytea, p_message bytea) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_key bytea := p_key || decode(repeat('00', 64 - octet_length(p_key)), 'hex');
    v_inner bytea := v_key;
    v_outer bytea := v_key;
BEGIN
    FOR i IN 0 .. 63 LOOP
        v_inner := set_byte(v_inner, i, get_byte(v_key, i) # 54);
        v_outer := set_byte(v_outer, i, get_byte(v_key, i) # 92);
    END LOOP;
    RETURN sha256(v_outer || sha256(v_inner || p_message));
END $$;

-- Where a person's wrong proofs are counted.
CREATE FUNCTION gate.failures_of(p_number integer) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS
    $$ SELECT format('gate.person_failures_%s', p_number) $$;

-- Persons are the owner's business: none of these is granted to a login of the service.
CREATE FUNCTION gate.person_add(
    p_person_id text, p_name text, p_roles text[], p_stored_key bytea, p_actor text, p_request_id text
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_number integer;
BEGIN
    INSERT INTO gate.persons (person_id, name, roles) VALUES (p_person_id, p_name, p_roles);
    INSERT INTO gate.person_secrets (person_id, stored_key) VALUES (p_person_id, p_stored_key)
    RETURNING number INTO v_number;
    EXECUTE format('CREATE SEQUENCE %s MINVALUE 0 OWNED BY gate.person_secrets.number', gate.failures_of(v_number));
    PERFORM setval(gate.failures_of(v_number)::regclass, 0, true);
    PERFORM gate.audit_append(p_actor, 'person.add', p_person_id, NULL,
                              jsonb_build_object('name', p_name, 'roles', p_roles), NULL, p_request_id);
END $$;

-- A new secret, which unlocks as well; the old one ends at once.
CREATE FUNCTION gate.person_rotate(p_person_id text, p_stored_key bytea, p_actor text, p_request_id text)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_number integer;
BEGIN
    UPDATE gate.person_secrets SET stored_key = p_stored_key, changed_at = now() WHERE person_id = p_person_id
    RETURNING number INTO v_number;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no person has this id' USING ERRCODE = 'CG404';
    END IF;
    PERFORM setval(gate.failures_of(v_number)::regclass, 0, true);
    PERFORM gate.audit_append(p_actor, 'person.rotate', p_person_id, NULL, NULL, NULL, p_request_id);
END $$;

-- p_roles null leaves them; p_disabled ends or resumes the right to sign. What was signed stays signed.
CREATE FUNCTION gate.person_amend(
    p_person_id text, p_roles text[], p_disabled boolean, p_actor text, p_reason text, p_request_id text
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_before gate.persons;
    v_after gate.persons;
BEGIN
    SELECT * INTO v_before FROM gate.persons WHERE person_id = p_person_id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no person has this id' USING ERRCODE = 'CG404';
    END IF;
    UPDATE gate.persons
    SET roles = coalesce(p_roles, roles),
        disabled_at = CASE WHEN p_disabled THEN coalesce(disabled_at, now())
                           WHEN p_disabled IS NULL THEN disabled_at END
    WHERE person_id = p_person_id RETURNING * INTO v_after;
    PERFORM gate.audit_append(p_actor, 'person.amend', p_person_id, to_jsonb(v_before), to_jsonb(v_after), p_reason,
                              p_request_id);
END $$;

CREATE FUNCTION gate.person_unlock(p_person_id text, p_actor text, p_reason text, p_request_id text)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_number integer;
BEGIN
    SELECT number INTO v_number FROM gate.person_secrets WHERE person_id = p_person_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no person has this id' USING ERRCODE = 'CG404';
    END IF;
    PERFORM setval(gate.failures_of(v_number)::regclass, 0, true);
    PERFORM gate.audit_append(p_actor, 'person.unlock', p_person_id, NULL, NULL, p_reason, p_request_id);
END $$;

CREATE FUNCTION gate.governance_set(
    p_single_person boolean, p_report_required boolean, p_actor text, p_reason text, p_request_id text
) RETURNS gate.governance LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_before gate.governance;
    v_after gate.governance;
BEGIN
    PERFORM pg_advisory_xact_lock(4840311976251041);
    SELECT * INTO STRICT v_before FROM gate.governance FOR UPDATE;
    UPDATE gate.governance
    SET single_person = coalesce(p_single_person, single_person),
        report_required = coalesce(p_report_required, report_required)
    RETURNING * INTO v_after;
    IF v_after IS DISTINCT FROM v_before THEN
        PERFORM gate.audit_append(p_actor, 'governance.set', 'governance', to_jsonb(v_before), to_jsonb(v_after),
                                  p_reason, p_request_id);
    END IF;
    RETURN v_after;
END $$;

CREATE FUNCTION gate.is_single_person() RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
    $$ SELECT single_person FROM gate.governance $$;

CREATE FUNCTION gate.instant_text(p_at timestamptz) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS
    $$ SELECT to_char(p_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') $$;

-- What a person signs: eight lines. A dash stands for what there is not.
CREATE FUNCTION gate.signed_message(
    p_act text, p_subject text, p_nonce text, p_digest bytea, p_report_digest bytea, p_moment timestamptz,
    p_warnings text[]
) RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT concat_ws(E'\n', 'channel-gate v1', p_act, p_subject, p_nonce, encode(p_digest, 'hex'),
                     coalesce(encode(p_report_digest, 'hex'), '-'), coalesce(gate.instant_text(p_moment), '-'),
                     coalesce((SELECT string_agg(w, ',' ORDER BY w COLLATE "C") FROM unnest(p_warnings) w), '-'))
$$;

-- Returns the id of the signature, or refuses. The proof is built as in SCRAM (RFC 5802, section 3):
-- key XOR HMAC(stored key, message), where key = sha256(secret). It fits this one message, so that who carries it
-- cannot use it for another; each is taken once. A wrong one is counted even where the caller rolls back.
CREATE FUNCTION gate.require_signature(
    p_person_id text, p_roles text[], p_act text, p_subject text, p_nonce text, p_digest bytea, p_report_digest bytea,
    p_moment timestamptz, p_warnings text[], p_proof bytea
) RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_roles text[];
    v_stored_key bytea;
    v_number integer;
    v_failures bigint;
    v_message text;
    v_mask bytea;
    v_key bytea := p_proof;
    v_id bigint;
BEGIN
    SELECT p.roles, s.stored_key, s.number INTO v_roles, v_stored_key, v_number
    FROM gate.persons p JOIN gate.person_secrets s USING (person_id)
    WHERE p.person_id = p_person_id AND p.disabled_at IS NULL
    FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the signature is not that of a person who may sign' USING ERRCODE = 'CG403';
    END IF;
    EXECUTE format('SELECT last_value FROM %s', gate.failures_of(v_number)) INTO v_failures;
    IF v_failures >= 10 THEN
        RAISE EXCEPTION 'the person is locked after too many wrong signatures: the owner unlocks'
            USING ERRCODE = 'CG403';
    END IF;
    IF octet_length(p_proof) IS DISTINCT FROM 32 OR p_nonce IS NULL OR p_nonce !~ '^[A-Za-z0-9-]{16,64}$' THEN
        RAISE EXCEPTION 'a proof is 32 bytes, a nonce 16 to 64 letters, digits and hyphens' USING ERRCODE = 'CG422';
    END IF;
    v_message := gate.signed_message(p_act, p_subject, p_nonce, p_digest, p_report_digest, p_moment, p_warnings);
    v_mask := gate.hmac_sha256(v_stored_key, convert_to(v_message, 'UTF8'));
    FOR i IN 0 .. 31 LOOP
        v_key := set_byte(v_key, i, get_byte(p_proof, i) # get_byte(v_mask, i));
    END LOOP;
    -- The hash of a hash is compared: how long that takes says nothing about either.
    IF sha256(sha256(v_key)) <> sha256(v_stored_key) THEN
        PERFORM nextval(gate.failures_of(v_number)::regclass);
        RAISE EXCEPTION 'the signature is not that of a person who may sign' USING ERRCODE = 'CG403';
    END IF;
    IF NOT v_roles && p_roles THEN
        RAISE EXCEPTION 'the person does not have the role that this takes' USING ERRCODE = 'CG403';
    END IF;
    INSERT INTO gate.signatures (person_id, act, subject, message, proof_hash)
    VALUES (p_person_id, p_act, p_subject, v_message, sha256(p_proof)) RETURNING signature_id INTO v_id;
    PERFORM setval(gate.failures_of(v_number)::regclass, 0, true);
    RETURN v_id;
END $$;

SELECT gate.forbid_truncate('gate.governance', 'gate.persons', 'gate.person_secrets', 'gate.signatures');
