-- The outbox: what happened, written in the transaction in which it happens, and what is still to be delivered.

-- `position` is drawn while the transaction runs and is no order of commits: who reads on from a cursor goes by
-- (transaction_id, position), and only up to the oldest transaction that is still under way.
CREATE TABLE gate.events (
    event_id uuid PRIMARY KEY,
    position bigint GENERATED ALWAYS AS IDENTITY,
    transaction_id bigint NOT NULL,
    at timestamptz NOT NULL,
    originator_id integer REFERENCES gate.originators,
    kind text NOT NULL REFERENCES gate.event_kinds,
    subject text NOT NULL CHECK (length(subject) BETWEEN 1 AND 200),
    body text NOT NULL
);
CREATE INDEX events_order ON gate.events (transaction_id, position);
CREATE TRIGGER events_are_immutable BEFORE UPDATE OR DELETE ON gate.events
    FOR EACH ROW EXECUTE FUNCTION gate.refuse_change();

-- `next_attempt_at` is also the lease: a claim moves it ahead, and a claim that is never settled falls due again there.
-- `attempts` tells the claims apart.
CREATE TABLE gate.webhook_deliveries (
    delivery_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    endpoint_id uuid NOT NULL REFERENCES gate.webhook_endpoints,
    event_id uuid NOT NULL REFERENCES gate.events,
    subject text NOT NULL,
    position bigint NOT NULL,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'cancelled')),
    redelivery boolean NOT NULL DEFAULT false,
    attempts integer NOT NULL DEFAULT 0,
    due_since timestamptz NOT NULL DEFAULT now(),
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    settled_at timestamptz,
    CONSTRAINT webhook_deliveries_are_one_each UNIQUE (event_id, endpoint_id)
);
CREATE INDEX webhook_deliveries_due ON gate.webhook_deliveries (endpoint_id, next_attempt_at, position)
    WHERE state = 'pending';
CREATE INDEX webhook_deliveries_order ON gate.webhook_deliveries (endpoint_id, subject, position)
    WHERE state = 'pending' AND NOT redelivery;

-- One row an attempt, made before it starts: where a process died in the middle, its result stays unknown.
CREATE TABLE gate.webhook_attempts (
    delivery_id bigint NOT NULL REFERENCES gate.webhook_deliveries,
    number integer NOT NULL,
    started_at timestamptz NOT NULL,
    duration_ms integer,
    result text CHECK (result IN ('delivered', 'refused', 'timeout', 'unreachable', 'blocked')),
    status smallint,
    excerpt text CHECK (length(excerpt) <= 200),
    PRIMARY KEY (delivery_id, number)
);

CREATE FUNCTION gate.utc_text(p_at timestamptz) RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS
    $$ SELECT to_char(p_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') $$;

-- Tells an originator (null: all of them) something, by the transaction that does it: both or neither. To be called
-- while the subject's own row is locked, so that its events come in order. The payload holds no applicant's data.
CREATE FUNCTION gate.event_put(p_originator integer, p_kind text, p_subject text, p_payload jsonb) RETURNS uuid
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_id uuid := gen_random_uuid();
    v_at timestamptz := clock_timestamp();
    v_position bigint;
BEGIN
    IF jsonb_typeof(p_payload) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'the payload of an event is an object' USING ERRCODE = 'CG422';
    END IF;
    INSERT INTO gate.events (event_id, transaction_id, at, originator_id, kind, subject, body)
    VALUES (v_id, pg_current_xact_id()::text::bigint, v_at, p_originator, p_kind, p_subject,
            jsonb_build_object('id', v_id, 'type', p_kind, 'timestamp', gate.utc_text(v_at), 'subject', p_subject,
                               'data', p_payload)::text)
    RETURNING position INTO v_position;
    INSERT INTO gate.webhook_deliveries (endpoint_id, event_id, subject, position)
    SELECT e.endpoint_id, v_id, p_subject, v_position
    FROM gate.webhook_endpoints e
    WHERE e.disabled_at IS NULL AND (p_originator IS NULL OR e.originator_id = p_originator)
      AND (e.kinds IS NULL OR p_kind = ANY (e.kinds));
    RETURN v_id;
END $$;

-- Why and by whom is the bank's own affair.
CREATE FUNCTION gate.tell_channel_state() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_code text;
BEGIN
    SELECT code INTO STRICT v_code FROM gate.channels WHERE channel_id = NEW.channel_id;
    PERFORM gate.event_put(
        NULL, 'channel.state_changed', v_code,
        jsonb_build_object('channel', v_code, 'before', NEW.state_before, 'after', NEW.state_after,
                           'at', gate.utc_text(NEW.at)));
    RETURN NULL;
END $$;
CREATE TRIGGER channel_state_changes_are_told AFTER INSERT ON gate.channel_state_changes
    FOR EACH ROW EXECUTE FUNCTION gate.tell_channel_state();

SELECT gate.forbid_truncate('gate.events', 'gate.webhook_deliveries', 'gate.webhook_attempts');
