-- Aggregate limits, and what accepts take of them: reserved at the accept, posted at funding, voided or expired else.

-- Raised with every change of a budget. A flush refuses what was decided under an older one, as it does for channels.
ALTER TABLE gate.state ADD COLUMN budget_revision bigint NOT NULL DEFAULT 0;

-- How long an accept stays open without being funded. At most the time over which a person's applications are counted.
CREATE TABLE gate.reservation_terms (
    channel_kind text NOT NULL,
    retention_class text NOT NULL,
    hours smallint NOT NULL CHECK (hours BETWEEN 1 AND 720),
    PRIMARY KEY (channel_kind, retention_class)
);
INSERT INTO gate.reservation_terms
SELECT kind, class, CASE WHEN class = 'business' THEN 336 WHEN kind = 'offline' THEN 168 ELSE 72 END
FROM unnest(ARRAY['online', 'offline', 'intermediary', 'social']) kind, unnest(ARRAY['consumer', 'business']) class;

-- One row for each accept, also where no budget applies: its life is reserved -> posted | voided | expired. It names no
-- person: whose accept it is, the decision says, for as long as the log may.
CREATE TABLE gate.reservations (
    decision_id uuid PRIMARY KEY,
    channel_id integer NOT NULL,
    amount bigint NOT NULL,
    currency text NOT NULL,
    state text NOT NULL DEFAULT 'reserved' CHECK (state IN ('reserved', 'posted', 'voided', 'expired')),
    reserved_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    resolved_at timestamptz,
    cause text,
    posted_amount bigint,
    CONSTRAINT reservations_resolved CHECK ((state = 'reserved') = (resolved_at IS NULL)),
    CONSTRAINT reservations_posted CHECK ((state = 'posted') = (posted_amount IS NOT NULL))
) WITH (autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
CREATE INDEX reservations_open ON gate.reservations (expires_at) WHERE state = 'reserved';

CREATE FUNCTION gate.resolve_once() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF OLD.state <> 'reserved' THEN
        RAISE EXCEPTION 'a reservation is resolved once' USING ERRCODE = 'CG409';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER reservations_are_resolved_once BEFORE UPDATE ON gate.reservations
    FOR EACH ROW EXECUTE FUNCTION gate.resolve_once();

-- A limit over a scope; null means any. Every budget whose scope an accept lies in applies. `period` says what resets
-- it: a day or month of `time_zone`, or nothing. `measure` says what is counted: loans, their amount (minor units of
-- `currency`), or their expected loss, which is the amount times `loss_rate_ppm` of the tier.
CREATE TABLE gate.budgets (
    budget_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel_id integer REFERENCES gate.channels,
    tier text,
    product text,
    jurisdiction text,
    period text NOT NULL CHECK (period IN ('daily', 'monthly', 'outstanding')),
    measure text NOT NULL CHECK (measure IN ('count', 'amount', 'expected_loss')),
    currency text,
    limit_units bigint NOT NULL CHECK (limit_units >= 0),
    overbooking_pct smallint NOT NULL DEFAULT 100 CHECK (overbooking_pct BETWEEN 100 AND 300),
    loss_rate_ppm jsonb,
    time_zone text NOT NULL,
    cause text NOT NULL DEFAULT 'manual' CHECK (cause IN ('manual', 'probation')),
    created_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    revision bigint NOT NULL,
    CONSTRAINT budgets_currency CHECK ((measure = 'count') = (currency IS NULL)),
    CONSTRAINT budgets_loss_rates CHECK ((measure = 'expected_loss') = (loss_rate_ppm IS NOT NULL))
);
CREATE UNIQUE INDEX budgets_one_is_open ON gate.budgets (channel_id, tier, product, jurisdiction, period, measure, currency)
    NULLS NOT DISTINCT WHERE ended_at IS NULL;

-- What has been taken of a budget between two instants. The hottest rows of the service: no index holds what changes.
CREATE TABLE gate.budget_periods (
    period_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    budget_id bigint NOT NULL REFERENCES gate.budgets,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL CHECK (ends_at > starts_at),
    reserved bigint NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    posted bigint NOT NULL DEFAULT 0 CHECK (posted >= 0),
    CONSTRAINT budget_periods_once UNIQUE (budget_id, starts_at)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- Which units of which period an accept holds. They go back to that period, whenever that is.
CREATE TABLE gate.reservation_units (
    decision_id uuid NOT NULL,
    period_id bigint NOT NULL,
    units bigint NOT NULL CHECK (units >= 0),
    PRIMARY KEY (decision_id, period_id)
);

-- Lays out the periods from now on: 40 days or 4 months ahead. Returns how many were made.
CREATE FUNCTION gate.budget_periods_ensure(p_budget_id bigint DEFAULT NULL) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_made integer;
BEGIN
    INSERT INTO gate.budget_periods (budget_id, starts_at, ends_at)
    SELECT b.budget_id, s.starts_at, s.ends_at
    FROM gate.budgets b, LATERAL (
        SELECT '-infinity'::timestamptz AS starts_at, 'infinity'::timestamptz AS ends_at WHERE b.period = 'outstanding'
        UNION ALL
        SELECT (day::date)::timestamp AT TIME ZONE b.time_zone, (day::date + 1)::timestamp AT TIME ZONE b.time_zone
        FROM generate_series(-1, 40) n, LATERAL (SELECT (now() AT TIME ZONE b.time_zone)::date + n AS day) d
        WHERE b.period = 'daily'
        UNION ALL
        SELECT month AT TIME ZONE b.time_zone, (month + interval '1 month') AT TIME ZONE b.time_zone
        FROM generate_series(-1, 4) n, LATERAL (
            SELECT date_trunc('month', now() AT TIME ZONE b.time_zone) + make_interval(months => n) AS month) m
        WHERE b.period = 'monthly'
    ) s
    WHERE b.ended_at IS NULL AND (p_budget_id IS NULL OR b.budget_id = p_budget_id)
      AND NOT EXISTS (SELECT FROM gate.budget_periods p WHERE p.budget_id = b.budget_id AND p.starts_at = s.starts_at)
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS v_made = ROW_COUNT;
    RETURN v_made;
END $$;

-- Which period of a budget an instant lies in. Null where none has been laid out: then nothing is available.
CREATE FUNCTION gate.budget_period_at(p_budget_id bigint, p_at timestamptz) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_period gate.budget_periods;
BEGIN
    SELECT * INTO v_period FROM gate.budget_periods
    WHERE budget_id = p_budget_id AND starts_at <= p_at ORDER BY starts_at DESC LIMIT 1;
    RETURN CASE WHEN v_period.ends_at > p_at THEN v_period.period_id END;
END $$;

-- Moves units of periods: each period's row is locked in the order of its id and written once.
CREATE FUNCTION gate.budget_periods_move(p_period_id bigint[], p_reserved bigint[], p_posted bigint[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM gate.budget_periods WHERE period_id = ANY (p_period_id) ORDER BY period_id FOR NO KEY UPDATE;
    UPDATE gate.budget_periods p SET reserved = p.reserved + m.reserved, posted = p.posted + m.posted
    FROM (SELECT period_id, sum(reserved) AS reserved, sum(posted) AS posted
          FROM unnest(p_period_id, p_reserved, p_posted) u (period_id, reserved, posted) GROUP BY period_id) m
    WHERE p.period_id = m.period_id AND (m.reserved <> 0 OR m.posted <> 0);
END $$;

-- Ends open reservations, which the caller has locked, without a loan, and gives their units back.
CREATE FUNCTION gate.reservations_release(p_decision_id uuid[], p_state text, p_cause text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_period bigint[];
    v_units bigint[];
BEGIN
    UPDATE gate.reservations SET state = p_state, resolved_at = clock_timestamp(), cause = p_cause
    WHERE decision_id = ANY (p_decision_id);
    SELECT array_agg(u.period_id), array_agg(-u.units) INTO v_period, v_units
    FROM gate.reservation_units u WHERE u.decision_id = ANY (p_decision_id);
    IF v_period IS NOT NULL THEN
        PERFORM gate.budget_periods_move(v_period, v_units, array_fill(0::bigint, ARRAY[cardinality(v_units)]));
    END IF;
END $$;

-- Ends what nobody has funded in time. Any number of replicas may run it: each takes rows that no other holds.
CREATE FUNCTION gate.reservations_expire(p_limit integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_due uuid[];
BEGIN
    SELECT array_agg(decision_id) INTO v_due FROM (
        SELECT decision_id FROM gate.reservations WHERE state = 'reserved' AND expires_at <= now()
        ORDER BY expires_at LIMIT p_limit FOR UPDATE SKIP LOCKED) due;
    IF v_due IS NULL THEN
        RETURN 0;
    END IF;
    PERFORM gate.reservations_release(v_due, 'expired', 'time');
    RETURN cardinality(v_due);
END $$;

-- Ends one open reservation without a loan. False where it is resolved already, or was never made.
CREATE FUNCTION gate.reservation_void(p_decision_id uuid, p_cause text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM gate.reservations WHERE decision_id = p_decision_id AND state = 'reserved' FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM gate.reservations_release(ARRAY[p_decision_id], 'voided', p_cause);
    RETURN true;
END $$;

-- Posts what was funded (minor units) and releases the rest. A fact is never refused: the overrun over what was
-- reserved comes back, for the caller to flag. Null where the reservation is not open: then nothing was booked.
CREATE FUNCTION gate.reservation_post(p_decision_id uuid, p_amount bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_row gate.reservations;
    v_period bigint[];
    v_reserved bigint[];
    v_posted bigint[];
BEGIN
    IF p_amount < 0 THEN
        RAISE EXCEPTION 'an amount is not negative' USING ERRCODE = 'CG422';
    END IF;
    SELECT * INTO v_row FROM gate.reservations WHERE decision_id = p_decision_id AND state = 'reserved' FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    UPDATE gate.reservations
    SET state = 'posted', resolved_at = clock_timestamp(), cause = 'funded', posted_amount = p_amount
    WHERE decision_id = p_decision_id;
    SELECT array_agg(u.period_id), array_agg(-u.units),
           array_agg(CASE b.measure WHEN 'count' THEN u.units WHEN 'amount' THEN p_amount
                     ELSE ceil(u.units::numeric * p_amount / v_row.amount)::bigint END)
    INTO v_period, v_reserved, v_posted
    FROM gate.reservation_units u JOIN gate.budget_periods p USING (period_id) JOIN gate.budgets b USING (budget_id)
    WHERE u.decision_id = p_decision_id;
    IF v_period IS NOT NULL THEN
        PERFORM gate.budget_periods_move(v_period, v_reserved, v_posted);
    END IF;
    RETURN greatest(p_amount - v_row.amount, 0);
END $$;

-- Ends every open reservation of a channel, for who suspends it and means what was offered, too. Returns how many.
CREATE FUNCTION gate.channel_void_reservations(p_code text, p_actor text, p_reason text, p_request_id text)
RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_channel gate.channels;
    v_open uuid[];
BEGIN
    SELECT * INTO v_channel FROM gate.channels WHERE code = p_code;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no channel has this code' USING ERRCODE = 'CG404';
    ELSIF v_channel.state NOT IN ('suspended', 'exited') THEN
        RAISE EXCEPTION 'only what a suspended or exited channel has open can be voided' USING ERRCODE = 'CG409';
    END IF;
    SELECT array_agg(decision_id) INTO v_open FROM (
        SELECT decision_id FROM gate.reservations WHERE state = 'reserved' AND channel_id = v_channel.channel_id
        ORDER BY decision_id FOR UPDATE) held;
    IF v_open IS NOT NULL THEN
        PERFORM gate.reservations_release(v_open, 'voided', 'channel');
    END IF;
    PERFORM gate.audit_append(p_actor, 'channel.void_reservations', p_code, NULL,
                              jsonb_build_object('voided', coalesce(cardinality(v_open), 0)), p_reason, p_request_id);
    RETURN coalesce(cardinality(v_open), 0);
END $$;

SELECT gate.forbid_truncate('gate.reservations', 'gate.reservation_units', 'gate.budgets', 'gate.budget_periods');
