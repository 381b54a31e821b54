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
-- person: whose accept it is, the decision says, for as long as the log may. `decided_at` is the decision's, where it
-- became an accept later (`reserved_at`); null: at once.
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
    decided_at timestamptz,
    CONSTRAINT reservations_resolved CHECK ((state = 'reserved') = (resolved_at IS NULL)),
    CONSTRAINT reservations_posted CHECK ((state = 'posted') = (posted_amount IS NOT NULL))
) WITH (autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
CREATE INDEX reservations_open ON gate.reservations (expires_at) WHERE state = 'reserved';
CREATE INDEX reservations_resolved_at ON gate.reservations (resolved_at) WHERE resolved_at IS NOT NULL;

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
-- `currency`), or their expected loss, which is the amount times `loss_rate_ppm` of the tier. A monthly one may be held
-- to a growth, too: at most `growth_pct` percent above the mean of what was posted in the three months before, and
-- `floor_units` for who is new.
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
    growth_pct smallint CHECK (growth_pct BETWEEN 0 AND 1000),
    floor_units bigint CHECK (floor_units >= 0),
    time_zone text NOT NULL,
    cause text NOT NULL DEFAULT 'manual' CHECK (cause IN ('manual', 'probation')),
    created_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    revision bigint NOT NULL,
    CONSTRAINT budgets_currency CHECK ((measure = 'count') = (currency IS NULL)),
    CONSTRAINT budgets_loss_rates CHECK ((measure = 'expected_loss') = (loss_rate_ppm IS NOT NULL)),
    CONSTRAINT budgets_growth CHECK ((growth_pct IS NULL) = (floor_units IS NULL)
                                     AND (growth_pct IS NULL OR period = 'monthly'))
);
CREATE UNIQUE INDEX budgets_one_is_open ON gate.budgets (channel_id, tier, product, jurisdiction, period, measure, currency)
    NULLS NOT DISTINCT WHERE ended_at IS NULL;

-- What has been taken of a budget between two instants, and the most that growth allows in it. The hottest rows of the
-- service: no index holds what changes.
CREATE TABLE gate.budget_periods (
    period_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    budget_id bigint NOT NULL REFERENCES gate.budgets,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL CHECK (ends_at > starts_at),
    reserved bigint NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    posted bigint NOT NULL DEFAULT 0 CHECK (posted >= 0),
    cap_units bigint,
    CONSTRAINT budget_periods_once UNIQUE (budget_id, starts_at)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- Which units of which period an accept holds. They go back to that period, whenever that is.
CREATE TABLE gate.reservation_units (
    decision_id uuid NOT NULL,
    period_id bigint NOT NULL,
    units bigint NOT NULL CHECK (units >= 0),
    PRIMARY KEY (decision_id, period_id)
);

-- Lays out the periods from now on: 40 days or 4 months ahead, and where growth is measured the three months before.
-- Returns how many were made.
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
        FROM generate_series(CASE WHEN b.growth_pct IS NULL THEN -1 ELSE -3 END, 4) n, LATERAL (
            SELECT date_trunc('month', now() AT TIME ZONE b.time_zone) + make_interval(months => n) AS month) m
        WHERE b.period = 'monthly'
    ) s
    WHERE b.ended_at IS NULL AND (p_budget_id IS NULL OR b.budget_id = p_budget_id)
      AND NOT EXISTS (SELECT FROM gate.budget_periods p WHERE p.budget_id = b.budget_id AND p.starts_at = s.starts_at)
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS v_made = ROW_COUNT;
    PERFORM gate.budget_caps_refresh(p_budget_id);
    RETURN v_made;
END $$;

-- Says anew what growth allows in the months that are not over: what was posted before may have changed since.
CREATE FUNCTION gate.budget_caps_refresh(p_budget_id bigint DEFAULT NULL) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_period bigint[];
    v_cap bigint[];
BEGIN
    SELECT array_agg(c.period_id), array_agg(c.cap) INTO v_period, v_cap
    FROM (SELECT p.period_id, p.cap_units,
                 CASE WHEN b.growth_pct IS NOT NULL THEN
                     greatest(b.floor_units, coalesce((
                         SELECT sum(q.posted)
                         FROM (SELECT e.posted FROM gate.budget_periods e
                               WHERE e.budget_id = p.budget_id AND e.starts_at < p.starts_at
                               ORDER BY e.starts_at DESC LIMIT 3) q) * (100 + b.growth_pct) / 300, 0)::bigint) END AS cap
          FROM gate.budgets b JOIN gate.budget_periods p USING (budget_id)
          WHERE b.period = 'monthly' AND b.ended_at IS NULL AND p.ends_at > now()
            AND (p_budget_id IS NULL OR b.budget_id = p_budget_id)
            AND (b.growth_pct IS NOT NULL OR p.cap_units IS NOT NULL)) c
    WHERE c.cap_units IS DISTINCT FROM c.cap;
    IF v_period IS NULL THEN
        RETURN 0;
    END IF;
    PERFORM FROM gate.budget_periods WHERE period_id = ANY (v_period) ORDER BY period_id FOR NO KEY UPDATE;
    UPDATE gate.budget_periods p SET cap_units = c.cap
    FROM unnest(v_period, v_cap) c (period_id, cap) WHERE p.period_id = c.period_id;
    RETURN cardinality(v_period);
END $$;

-- What one accept takes of a budget: the same as `Budget.units` in app/domain/budget.py. A tier without a rate loses
-- everything.
CREATE FUNCTION gate.budget_units(p_measure text, p_loss_rate_ppm jsonb, p_amount bigint, p_tier text) RETURNS bigint
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE p_measure WHEN 'count' THEN 1 WHEN 'amount' THEN p_amount
           ELSE ceil(p_amount::numeric * coalesce((p_loss_rate_ppm ->> p_tier)::bigint, 1000000) / 1000000)::bigint END
$$;

-- What a loan has posted of a budget that its accept had reserved `p_units` of: of `p_posted` minor units that were paid
-- out, or are still owed.
CREATE FUNCTION gate.posted_units(p_measure text, p_units bigint, p_amount bigint, p_posted bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE p_measure WHEN 'count' THEN CASE WHEN p_posted > 0 THEN p_units ELSE 0 END WHEN 'amount' THEN p_posted
           ELSE ceil(p_units::numeric * p_posted / p_amount)::bigint END
$$;

-- Whether an accept of that kind falls under a budget: the same as `Budget.covers`.
CREATE FUNCTION gate.budget_covers(
    p_budget gate.budgets, p_channel_id integer, p_tier text, p_product text, p_jurisdiction text, p_currency text
) RETURNS boolean LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(p_budget.channel_id = p_channel_id, true) AND coalesce(p_budget.tier = p_tier, true)
           AND coalesce(p_budget.product = p_product, true) AND coalesce(p_budget.currency = p_currency, true)
           AND (p_budget.jurisdiction IS NULL OR p_budget.jurisdiction IS NOT DISTINCT FROM p_jurisdiction)
$$;

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

-- What was funded beyond what had been reserved: facts are never refused, so it is booked and stands here. `above` is a
-- funding above its reservation, `unreserved` one whose accept had ended, or had never been.
CREATE TABLE gate.overruns (
    decision_id uuid PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('above', 'unreserved')),
    channel_id integer NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    currency text NOT NULL,
    at timestamptz NOT NULL
);
CREATE INDEX overruns_at ON gate.overruns (at);

-- The units that an unreserved funding has posted.
CREATE TABLE gate.overrun_units (
    decision_id uuid NOT NULL REFERENCES gate.overruns,
    period_id bigint NOT NULL,
    units bigint NOT NULL CHECK (units >= 0),
    PRIMARY KEY (decision_id, period_id)
);

-- What is still owed of loans that have been repaid in part or whole: outstanding budgets get the rest back.
CREATE TABLE gate.loan_balances (
    decision_id uuid PRIMARY KEY,
    balance bigint NOT NULL CHECK (balance >= 0),
    at timestamptz NOT NULL
);

SELECT gate.forbid_truncate('gate.reservations', 'gate.reservation_units', 'gate.budgets', 'gate.budget_periods',
                            'gate.overruns', 'gate.overrun_units', 'gate.loan_balances');
