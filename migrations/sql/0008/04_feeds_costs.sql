-- How far a feed of performance is complete, and what channels cost. Both only grow; the latest statement counts.

CREATE TABLE gate.feed_statements (
    statement_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    originator_id integer NOT NULL REFERENCES gate.originators,
    feed text NOT NULL CHECK (feed ~ '^[A-Za-z0-9._-]{1,64}$'),
    channel_ids integer[] CHECK (cardinality(channel_ids) > 0),
    performance_complete_through date NOT NULL,
    stated_at timestamptz NOT NULL DEFAULT now(),
    stated_by text NOT NULL
);
CREATE INDEX feed_statements_latest ON gate.feed_statements (originator_id, feed, statement_id DESC);
CREATE TRIGGER feed_statements_are_immutable BEFORE UPDATE OR DELETE ON gate.feed_statements
    FOR EACH ROW EXECUTE FUNCTION gate.refuse_change();

CREATE VIEW gate.feeds AS
SELECT DISTINCT ON (s.originator_id, s.feed) s.* FROM gate.feed_statements s
ORDER BY s.originator_id, s.feed, s.statement_id DESC;

-- p_channels: codes or aliases; null means all channels of the originator.
CREATE FUNCTION gate.feed_state(
    p_originator_id integer, p_feed text, p_channels text[], p_complete_through date, p_by text
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_channels integer[];
BEGIN
    IF p_channels IS NOT NULL THEN
        SELECT array_agg(DISTINCT channel_id ORDER BY channel_id) INTO v_channels
        FROM (SELECT channel_id FROM gate.channels WHERE code = ANY (p_channels)
              UNION ALL SELECT channel_id FROM gate.channel_aliases WHERE alias = ANY (p_channels)) known;
        IF coalesce(cardinality(v_channels), 0) <> (SELECT count(DISTINCT c) FROM unnest(p_channels) c) THEN
            RAISE EXCEPTION 'a channel is not on the named list, or is named twice' USING ERRCODE = 'CG422';
        END IF;
    END IF;
    INSERT INTO gate.feed_statements (originator_id, feed, channel_ids, performance_complete_through, stated_by)
    VALUES (p_originator_id, p_feed, v_channels, p_complete_through, p_by);
END $$;

-- A cost of a channel over the days [starts_on, ends_on], minor units. A higher correction takes the place of a lower.
CREATE TABLE gate.channel_costs (
    cost_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel_id integer NOT NULL REFERENCES gate.channels,
    kind text NOT NULL CHECK (kind IN ('media', 'operations')),
    starts_on date NOT NULL,
    ends_on date NOT NULL,
    currency text NOT NULL,
    reference text NOT NULL,
    correction integer NOT NULL CHECK (correction >= 0),
    amount bigint NOT NULL CHECK (amount >= 0),
    recorded_at timestamptz NOT NULL DEFAULT now(),
    recorded_by text NOT NULL,
    CONSTRAINT channel_costs_period CHECK (ends_on >= starts_on),
    CONSTRAINT channel_costs_once UNIQUE (channel_id, kind, starts_on, ends_on, currency, reference, correction)
);
CREATE TRIGGER channel_costs_are_immutable BEFORE UPDATE OR DELETE ON gate.channel_costs
    FOR EACH ROW EXECUTE FUNCTION gate.refuse_change();

CREATE VIEW gate.current_channel_costs AS
SELECT DISTINCT ON (c.channel_id, c.kind, c.starts_on, c.ends_on, c.currency, c.reference) c.* FROM gate.channel_costs c
ORDER BY c.channel_id, c.kind, c.starts_on, c.ends_on, c.currency, c.reference, c.correction DESC;

-- Records a cost. False where exactly this is known already; another amount needs a correction of its own.
CREATE FUNCTION gate.cost_record(
    p_code text, p_kind text, p_starts_on date, p_ends_on date, p_currency text, p_reference text, p_correction integer,
    p_amount bigint, p_by text
) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_channel_id integer;
    v_known bigint;
BEGIN
    SELECT channel_id INTO v_channel_id FROM gate.channels WHERE code = p_code;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no channel has this code' USING ERRCODE = 'CG404';
    END IF;
    INSERT INTO gate.channel_costs (channel_id, kind, starts_on, ends_on, currency, reference, correction, amount,
                                    recorded_by)
    VALUES (v_channel_id, p_kind, p_starts_on, p_ends_on, p_currency, p_reference, p_correction, p_amount, p_by)
    ON CONFLICT DO NOTHING;
    IF FOUND THEN
        RETURN true;
    END IF;
    SELECT amount INTO STRICT v_known FROM gate.channel_costs
    WHERE channel_id = v_channel_id AND kind = p_kind AND starts_on = p_starts_on AND ends_on = p_ends_on
      AND currency = p_currency AND reference = p_reference AND correction = p_correction;
    IF v_known <> p_amount THEN
        RAISE EXCEPTION 'this cost is recorded with another amount: send it with the next correction'
            USING ERRCODE = 'CG409';
    END IF;
    RETURN false;
END $$;

SELECT gate.forbid_truncate('gate.feed_statements', 'gate.channel_costs', 'gate.reservation_adjustments');
