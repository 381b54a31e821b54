-- Who sets budgets. What makes the gate stricter one person may do alone; what lets more through takes two.

-- Counts what accepts before it have taken of a budget that is opened now, and what they have posted of it: nobody gets
-- the month anew by being given a budget in its middle. Reads the whole book of its scope.
CREATE FUNCTION gate.budget_take_in(p_budget_id bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_budget gate.budgets;
    v_since timestamptz;
    v_period bigint[];
    v_reserved bigint[];
    v_posted bigint[];
BEGIN
    SELECT * INTO STRICT v_budget FROM gate.budgets WHERE budget_id = p_budget_id;
    SELECT min(starts_at) INTO v_since FROM gate.budget_periods WHERE budget_id = p_budget_id;
    PERFORM FROM gate.reservations r
    WHERE r.reserved_at >= v_since AND r.state IN ('reserved', 'posted')
      AND (v_budget.channel_id IS NULL OR r.channel_id = v_budget.channel_id)
    ORDER BY r.decision_id FOR UPDATE;
    WITH taken AS (
        INSERT INTO gate.reservation_units (decision_id, period_id, units)
        SELECT r.decision_id, p.period_id, gate.budget_units(v_budget.measure, v_budget.loss_rate_ppm, r.amount, d.tier)
        FROM gate.reservations r
        JOIN gate.decisions d ON d.decision_id = r.decision_id AND d.decided_at = coalesce(r.decided_at, r.reserved_at)
        JOIN gate.budget_periods p ON p.budget_id = p_budget_id AND p.starts_at <= r.reserved_at
                                  AND p.ends_at > r.reserved_at
        WHERE r.reserved_at >= v_since AND r.state IN ('reserved', 'posted')
          AND gate.budget_covers(v_budget, r.channel_id, d.tier, d.product, d.jurisdiction, r.currency)
        ON CONFLICT DO NOTHING RETURNING decision_id, period_id, units)
    SELECT array_agg(t.period_id), array_agg(CASE r.state WHEN 'reserved' THEN t.units ELSE 0 END),
           array_agg(CASE r.state WHEN 'posted' THEN gate.posted_units(
               v_budget.measure, t.units, r.amount,
               CASE v_budget.period WHEN 'outstanding' THEN least(r.posted_amount, l.balance) ELSE r.posted_amount END)
               ELSE 0 END)
    INTO v_period, v_reserved, v_posted
    FROM taken t JOIN gate.reservations r USING (decision_id) LEFT JOIN gate.loan_balances l USING (decision_id);
    IF v_period IS NOT NULL THEN
        PERFORM gate.budget_periods_move(v_period, v_reserved, v_posted);
    END IF;
    PERFORM gate.budget_caps_refresh(p_budget_id);
END $$;

-- Sets the limit of a scope, or opens it. A limit may lie below what has been taken: then nothing more is.
CREATE FUNCTION gate.budget_put(
    p_code text, p_tier text, p_product text, p_jurisdiction text, p_period text, p_measure text, p_currency text,
    p_limit bigint, p_overbooking_pct integer, p_loss_rate_ppm jsonb, p_growth_pct integer, p_floor bigint,
    p_time_zone text, p_expected_revision bigint, p_actor text, p_reason text, p_request_id text
) RETURNS gate.budgets LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_revision bigint := gate.next_revision();
    v_channel_id integer;
    v_before gate.budgets;
    v_after gate.budgets;
BEGIN
    IF p_code IS NOT NULL THEN
        v_channel_id := (gate.channel_by_code(p_code)).channel_id;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_timezone_names WHERE name = p_time_zone) THEN
        RAISE EXCEPTION 'there is no such time zone' USING ERRCODE = 'CG422';
    ELSIF p_tier IS NOT NULL AND NOT gate.tier_is_known(p_tier) THEN
        RAISE EXCEPTION 'the active policy has no such tier' USING ERRCODE = 'CG422';
    ELSIF p_period NOT IN ('daily', 'monthly', 'outstanding') OR p_measure NOT IN ('count', 'amount', 'expected_loss') THEN
        RAISE EXCEPTION 'there is no such period or measure' USING ERRCODE = 'CG422';
    ELSIF (p_growth_pct IS NULL) <> (p_floor IS NULL) OR p_growth_pct NOT BETWEEN 0 AND 1000 OR p_floor < 0
          OR (p_growth_pct IS NOT NULL AND p_period <> 'monthly') THEN
        RAISE EXCEPTION 'a month may be held to a growth of 0 to 1000 percent, with a floor' USING ERRCODE = 'CG422';
    ELSIF p_limit < 0 OR p_overbooking_pct NOT BETWEEN 100 AND 300 THEN
        RAISE EXCEPTION 'a limit is not negative, and overbooking is 100 to 300 percent' USING ERRCODE = 'CG422';
    ELSIF (p_measure = 'count') IS DISTINCT FROM (p_currency IS NULL) THEN
        RAISE EXCEPTION 'amounts have a currency, and counts have none' USING ERRCODE = 'CG422';
    ELSIF (p_measure = 'expected_loss') IS DISTINCT FROM (p_loss_rate_ppm IS NOT NULL) THEN
        RAISE EXCEPTION 'an expected loss has a rate for each tier, and nothing else has' USING ERRCODE = 'CG422';
    END IF;
    SELECT * INTO v_before FROM gate.budgets b
    WHERE b.channel_id IS NOT DISTINCT FROM v_channel_id AND b.tier IS NOT DISTINCT FROM p_tier
      AND b.product IS NOT DISTINCT FROM p_product AND b.jurisdiction IS NOT DISTINCT FROM p_jurisdiction
      AND b.period = p_period AND b.measure = p_measure AND b.currency IS NOT DISTINCT FROM p_currency
      AND b.ended_at IS NULL
    FOR UPDATE;
    IF p_expected_revision = 0 AND v_before.budget_id IS NOT NULL THEN
        RAISE EXCEPTION 'the scope has such a budget already' USING ERRCODE = 'CG409';
    ELSIF p_expected_revision > 0 AND v_before.revision IS DISTINCT FROM p_expected_revision THEN
        RAISE EXCEPTION 'the budget has changed since it was read' USING ERRCODE = 'CG412';
    ELSIF v_before.budget_id IS NOT NULL AND v_before.time_zone <> p_time_zone THEN
        RAISE EXCEPTION 'the time zone of a budget stays as it is: end it and open another' USING ERRCODE = 'CG409';
    ELSIF v_before.budget_id IS NOT NULL THEN
        UPDATE gate.budgets SET limit_units = p_limit, overbooking_pct = p_overbooking_pct,
                                loss_rate_ppm = p_loss_rate_ppm, growth_pct = p_growth_pct, floor_units = p_floor,
                                cause = 'manual', revision = v_revision
        WHERE budget_id = v_before.budget_id RETURNING * INTO v_after;
    ELSE
        INSERT INTO gate.budgets (channel_id, tier, product, jurisdiction, period, measure, currency, limit_units,
                                  overbooking_pct, loss_rate_ppm, growth_pct, floor_units, time_zone, revision)
        VALUES (v_channel_id, p_tier, p_product, p_jurisdiction, p_period, p_measure, p_currency, p_limit,
                p_overbooking_pct, p_loss_rate_ppm, p_growth_pct, p_floor, p_time_zone, v_revision)
        RETURNING * INTO v_after;
    END IF;
    PERFORM gate.budget_periods_ensure(v_after.budget_id);
    IF v_before.budget_id IS NULL OR (v_before.growth_pct IS NULL AND p_growth_pct IS NOT NULL) THEN
        PERFORM gate.budget_take_in(v_after.budget_id);
    END IF;
    UPDATE gate.state SET budget_revision = v_revision;
    PERFORM gate.audit_append(p_actor, 'budget.set', coalesce(p_code, '*'), to_jsonb(v_before), to_jsonb(v_after),
                              p_reason, p_request_id);
    RETURN v_after;
END $$;

-- Ends a budget: what has been taken of it stays written down, and still resolves.
CREATE FUNCTION gate.budget_close(p_budget_id bigint, p_actor text, p_reason text, p_request_id text)
RETURNS gate.budgets LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_revision bigint := gate.next_revision();
    v_row gate.budgets;
BEGIN
    UPDATE gate.budgets SET ended_at = clock_timestamp(), revision = v_revision
    WHERE budget_id = p_budget_id AND ended_at IS NULL RETURNING * INTO v_row;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no such open budget' USING ERRCODE = 'CG404';
    END IF;
    UPDATE gate.state SET budget_revision = v_revision;
    PERFORM gate.audit_append(p_actor, 'budget.end', p_budget_id::text, to_jsonb(v_row) - 'ended_at', to_jsonb(v_row),
                              p_reason, p_request_id);
    RETURN v_row;
END $$;

-- What one person may do alone: open a budget, or make one stricter. p_expected_revision: the one that the budget must
-- have; 0: there must be none; null: whichever.
CREATE FUNCTION gate.budget_set(
    p_code text, p_tier text, p_product text, p_jurisdiction text, p_period text, p_measure text, p_currency text,
    p_limit bigint, p_overbooking_pct integer, p_loss_rate_ppm jsonb, p_time_zone text, p_actor text, p_reason text,
    p_request_id text, p_growth_pct integer DEFAULT NULL, p_floor bigint DEFAULT NULL,
    p_expected_revision bigint DEFAULT NULL
) RETURNS gate.budgets LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM gate.fence();
    IF NOT gate.is_single_person() AND EXISTS (
        SELECT FROM gate.budgets b LEFT JOIN gate.channels c USING (channel_id)
        WHERE c.code IS NOT DISTINCT FROM p_code AND b.tier IS NOT DISTINCT FROM p_tier
          AND b.product IS NOT DISTINCT FROM p_product AND b.jurisdiction IS NOT DISTINCT FROM p_jurisdiction
          AND b.period = p_period AND b.measure = p_measure AND b.currency IS NOT DISTINCT FROM p_currency
          AND b.ended_at IS NULL
          AND (p_limit > b.limit_units OR p_overbooking_pct > b.overbooking_pct
               OR p_loss_rate_ppm IS DISTINCT FROM b.loss_rate_ppm
               OR (b.growth_pct IS NOT NULL
                   AND (p_growth_pct IS NULL OR p_growth_pct > b.growth_pct OR p_floor > b.floor_units))))
    THEN
        RAISE EXCEPTION 'what lets more through takes a change request and the approval of a second person'
            USING ERRCODE = 'CG403';
    END IF;
    RETURN gate.budget_put(p_code, p_tier, p_product, p_jurisdiction, p_period, p_measure, p_currency, p_limit,
                           p_overbooking_pct, p_loss_rate_ppm, p_growth_pct, p_floor, p_time_zone, p_expected_revision,
                           p_actor, p_reason, p_request_id);
END $$;

CREATE FUNCTION gate.budget_end(p_budget_id bigint, p_actor text, p_reason text, p_request_id text)
RETURNS gate.budgets LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM gate.fence();
    IF NOT gate.is_single_person() THEN
        RAISE EXCEPTION 'ending a budget takes a change request and the approval of a second person'
            USING ERRCODE = 'CG403';
    END IF;
    RETURN gate.budget_close(p_budget_id, p_actor, p_reason, p_request_id);
END $$;

-- For a channel's code or '*': {"tier", "product", "jurisdiction", "period", "measure", "currency", "limit",
-- "overbooking_pct", "loss_rate_ppm", "growth_pct", "floor", "time_zone"}, of which the scope, the currency, and from
-- "overbooking_pct" on all may be absent.
CREATE FUNCTION gate.apply_budget(
    p_subject text, p_payload jsonb, p_reason text, p_change_id bigint, p_actor text, p_request_id text
) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM gate.budget_put(
        nullif(p_subject, '*'), p_payload ->> 'tier', p_payload ->> 'product', p_payload ->> 'jurisdiction',
        p_payload ->> 'period', p_payload ->> 'measure', p_payload ->> 'currency', (p_payload ->> 'limit')::bigint,
        coalesce((p_payload ->> 'overbooking_pct')::integer, 100), nullif(p_payload -> 'loss_rate_ppm', 'null'::jsonb),
        (p_payload ->> 'growth_pct')::integer, (p_payload ->> 'floor')::bigint,
        coalesce(p_payload ->> 'time_zone', 'UTC'), NULL, p_actor,
        format('%s (change request %s)', p_reason, p_change_id), p_request_id);
END $$;

-- For a channel's code or '*': {"budget_id"}.
CREATE FUNCTION gate.apply_budget_end(
    p_subject text, p_payload jsonb, p_reason text, p_change_id bigint, p_actor text, p_request_id text
) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_budget_id bigint := p_payload ->> 'budget_id';
BEGIN
    IF NOT EXISTS (SELECT FROM gate.budgets b LEFT JOIN gate.channels c USING (channel_id)
                   WHERE b.budget_id = v_budget_id AND coalesce(c.code, '*') = p_subject) THEN
        RAISE EXCEPTION 'there is no such open budget' USING ERRCODE = 'CG404';
    END IF;
    PERFORM gate.budget_close(v_budget_id, p_actor, format('%s (change request %s)', p_reason, p_change_id),
                              p_request_id);
END $$;
INSERT INTO gate.change_kinds VALUES ('budget.set', 'apply_budget'), ('budget.end', 'apply_budget_end');

-- A channel on probation has 50 loans a month until somebody sets another limit. It is one budget for each channel,
-- which ends with the probation and goes on with the next: nobody gets a month anew by being suspended in between.
CREATE FUNCTION gate.probation_budget() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_changed integer := 0;
    v_budget_id bigint;
BEGIN
    IF NEW.state = 'probation' THEN
        UPDATE gate.budgets b SET ended_at = NULL, revision = NEW.revision
        WHERE b.channel_id = NEW.channel_id AND b.cause = 'probation' AND b.ended_at IS NOT NULL
          AND NOT EXISTS (SELECT FROM gate.budgets o
                          WHERE o.channel_id = b.channel_id AND o.ended_at IS NULL AND o.period = 'monthly'
                            AND o.measure = 'count' AND o.tier IS NULL AND o.product IS NULL AND o.jurisdiction IS NULL)
        RETURNING budget_id INTO v_budget_id;
        IF v_budget_id IS NULL THEN
            INSERT INTO gate.budgets (channel_id, period, measure, limit_units, time_zone, cause, revision)
            VALUES (NEW.channel_id, 'monthly', 'count', 50, 'UTC', 'probation', NEW.revision)
            ON CONFLICT DO NOTHING RETURNING budget_id INTO v_budget_id;
        END IF;
        IF v_budget_id IS NOT NULL THEN
            PERFORM gate.budget_periods_ensure(v_budget_id);
            PERFORM gate.budget_take_in(v_budget_id);
            v_changed := 1;
        END IF;
    ELSIF TG_OP = 'UPDATE' THEN
        UPDATE gate.budgets SET ended_at = clock_timestamp(), revision = NEW.revision
        WHERE channel_id = NEW.channel_id AND cause = 'probation' AND ended_at IS NULL;
        GET DIAGNOSTICS v_changed = ROW_COUNT;
    END IF;
    IF v_changed > 0 THEN
        UPDATE gate.state SET budget_revision = greatest(budget_revision, NEW.revision);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER channels_on_probation AFTER INSERT OR UPDATE OF state ON gate.channels
    FOR EACH ROW EXECUTE FUNCTION gate.probation_budget();

INSERT INTO gate.budgets (channel_id, period, measure, limit_units, time_zone, cause, revision)
SELECT channel_id, 'monthly', 'count', 50, 'UTC', 'probation', (SELECT revision FROM gate.state)
FROM gate.channels WHERE state = 'probation';
SELECT gate.budget_periods_ensure();
UPDATE gate.state SET revision = revision + 1, budget_revision = revision + 1
WHERE EXISTS (SELECT FROM gate.budgets);
