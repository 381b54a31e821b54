-- Challengers: policies that are evaluated beside the active one without effect, and what came of it.

-- One row each time one was set. At most one is open; a row is only ever closed.
CREATE TABLE gate.challengers (
    challenger_id integer PRIMARY KEY CHECK (challenger_id > 0),
    name text NOT NULL,
    document text NOT NULL,
    digest bytea NOT NULL CHECK (octet_length(digest) = 32),
    sample_ppm integer NOT NULL CHECK (sample_ppm BETWEEN 1 AND 1000000),
    comment text,
    set_by text NOT NULL,
    set_at timestamptz NOT NULL,
    cleared_by text,
    cleared_at timestamptz
);
CREATE UNIQUE INDEX challengers_one_is_open ON gate.challengers ((cleared_at IS NULL)) WHERE cleared_at IS NULL;

CREATE FUNCTION gate.only_clear_challenger() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF OLD.cleared_at IS NOT NULL OR NEW.cleared_at IS NULL
       OR to_jsonb(OLD) - '{cleared_at,cleared_by}'::text[] <> to_jsonb(NEW) - '{cleared_at,cleared_by}'::text[] THEN
        RAISE EXCEPTION 'a challenger is only ever cleared' USING ERRCODE = 'CG403';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER challengers_are_only_cleared BEFORE UPDATE ON gate.challengers
    FOR EACH ROW EXECUTE FUNCTION gate.only_clear_challenger();
CREATE TRIGGER challengers_stay BEFORE DELETE ON gate.challengers
    FOR EACH ROW EXECUTE FUNCTION gate.refuse_change();

-- What workers count, by hour: the active policy's outcome, the challenger's, and ids of a few such decisions.
CREATE TABLE gate.shadow_hours (
    challenger_id integer NOT NULL REFERENCES gate.challengers,
    hour timestamptz NOT NULL,
    channel text NOT NULL,
    tier text NOT NULL,
    before text NOT NULL,
    after text NOT NULL,
    evaluations bigint NOT NULL,
    examples uuid[] NOT NULL,
    PRIMARY KEY (challenger_id, hour, channel, tier, before, after)
);
-- How often a reason came that the active policy did not give, or stayed away that it gave.
CREATE TABLE gate.shadow_reasons (
    challenger_id integer NOT NULL REFERENCES gate.challengers,
    hour timestamptz NOT NULL,
    channel text NOT NULL,
    tier text NOT NULL,
    code text NOT NULL,
    gained bigint NOT NULL,
    lost bigint NOT NULL,
    PRIMARY KEY (challenger_id, hour, channel, tier, code)
);
-- What was not evaluated.
CREATE TABLE gate.shadow_losses (
    challenger_id integer NOT NULL REFERENCES gate.challengers,
    hour timestamptz NOT NULL,
    errors bigint NOT NULL,
    dropped bigint NOT NULL,
    PRIMARY KEY (challenger_id, hour)
);

-- Sets the challenger in place of the one before. The same document and rate again change nothing, so that a request
-- whose answer was lost can be repeated and the report goes on.
CREATE FUNCTION gate.challenger_set(
    p_name text, p_document text, p_digest bytea, p_sample_ppm integer, p_comment text, p_actor text, p_request_id text
) RETURNS TABLE (challenger_id integer, changed boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_open gate.challengers;
    v_id integer;
    v_at timestamptz := clock_timestamp();
BEGIN
    LOCK TABLE gate.challengers IN SHARE ROW EXCLUSIVE MODE;
    IF sha256(convert_to(p_document, 'UTF8')) <> p_digest THEN
        RAISE EXCEPTION 'the digest is not that of the document' USING ERRCODE = 'CG422';
    END IF;
    SELECT * INTO v_open FROM gate.challengers c WHERE c.cleared_at IS NULL;
    IF v_open.digest = p_digest AND v_open.sample_ppm = p_sample_ppm THEN
        RETURN QUERY SELECT v_open.challenger_id, false;
        RETURN;
    END IF;
    PERFORM gate.next_revision();
    UPDATE gate.challengers SET cleared_at = v_at, cleared_by = p_actor WHERE cleared_at IS NULL;
    SELECT coalesce(max(c.challenger_id), 0) + 1 INTO v_id FROM gate.challengers c;
    INSERT INTO gate.challengers (challenger_id, name, document, digest, sample_ppm, comment, set_by, set_at)
    VALUES (v_id, p_name, p_document, p_digest, p_sample_ppm, p_comment, p_actor, v_at);
    PERFORM gate.audit_append(
        p_actor, 'challenger.set', v_id::text, jsonb_build_object('challenger', v_open.challenger_id),
        jsonb_build_object('challenger', v_id, 'name', p_name, 'digest', encode(p_digest, 'hex'),
                           'sample_ppm', p_sample_ppm),
        p_comment, p_request_id);
    RETURN QUERY SELECT v_id, true;
END $$;

CREATE FUNCTION gate.challenger_clear(p_comment text, p_actor text, p_request_id text) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_id integer;
BEGIN
    LOCK TABLE gate.challengers IN SHARE ROW EXCLUSIVE MODE;
    SELECT c.challenger_id INTO v_id FROM gate.challengers c WHERE c.cleared_at IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no challenger' USING ERRCODE = 'CG404';
    END IF;
    PERFORM gate.next_revision();
    UPDATE gate.challengers SET cleared_at = clock_timestamp(), cleared_by = p_actor WHERE cleared_at IS NULL;
    PERFORM gate.audit_append(
        p_actor, 'challenger.clear', v_id::text, jsonb_build_object('challenger', v_id),
        jsonb_build_object('challenger', NULL), p_comment, p_request_id);
    RETURN v_id;
END $$;

-- Adds what one worker has counted within an hour. Rows are taken in one order, so that workers do not deadlock.
CREATE FUNCTION gate.shadow_add(
    p_challenger integer, p_hour timestamptz, p_outcomes jsonb, p_reasons jsonb, p_errors bigint, p_dropped bigint
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO gate.shadow_losses AS s (challenger_id, hour, errors, dropped)
    VALUES (p_challenger, p_hour, p_errors, p_dropped)
    ON CONFLICT (challenger_id, hour) DO UPDATE
    SET errors = s.errors + excluded.errors, dropped = s.dropped + excluded.dropped;

    INSERT INTO gate.shadow_hours AS s (challenger_id, hour, channel, tier, before, after, evaluations, examples)
    SELECT p_challenger, p_hour, o.channel, o.tier, o.before, o.after, o.evaluations, o.examples
    FROM jsonb_to_recordset(p_outcomes)
         AS o(channel text, tier text, before text, after text, evaluations bigint, examples uuid[])
    ORDER BY o.channel, o.tier, o.before, o.after
    ON CONFLICT (challenger_id, hour, channel, tier, before, after) DO UPDATE
    SET evaluations = s.evaluations + excluded.evaluations, examples = (s.examples || excluded.examples)[1:5];

    INSERT INTO gate.shadow_reasons AS s (challenger_id, hour, channel, tier, code, gained, lost)
    SELECT p_challenger, p_hour, r.channel, r.tier, r.code, r.gained, r.lost
    FROM jsonb_to_recordset(p_reasons) AS r(channel text, tier text, code text, gained bigint, lost bigint)
    ORDER BY r.channel, r.tier, r.code
    ON CONFLICT (challenger_id, hour, channel, tier, code) DO UPDATE
    SET gained = s.gained + excluded.gained, lost = s.lost + excluded.lost;
END $$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA gate FROM PUBLIC;
GRANT SELECT ON gate.challengers, gate.shadow_hours, gate.shadow_reasons, gate.shadow_losses
    TO {{serving}}, {{governance}};
GRANT EXECUTE ON FUNCTION gate.shadow_add(integer, timestamptz, jsonb, jsonb, bigint, bigint) TO {{serving}};
GRANT EXECUTE ON FUNCTION gate.challenger_set(text, text, bytea, integer, text, text, text),
    gate.challenger_clear(text, text, text) TO {{governance}};

SELECT gate.forbid_truncate('gate.challengers');
