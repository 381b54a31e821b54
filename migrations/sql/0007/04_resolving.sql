-- How a reservation ends, and how what is booked moves. Whatever calls several of these locks in the order of the flush:
-- reservations by id, then budget periods by id.

-- What an originator hears of what became of its accepts, besides the kinds that there are.
INSERT INTO gate.event_kinds VALUES ('reservation.voided') ON CONFLICT DO NOTHING;

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

-- Tells the originators what became of reservations that have just ended, each under its decision's id. What the log has
-- forgotten is told nobody.
CREATE FUNCTION gate.reservations_tell(p_decision_id uuid[], p_kind text) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT gate.event_put(d.originator_id, p_kind, d.decision_id::text, jsonb_build_object(
        'decision_id', d.decision_id, 'application_id', d.application_id, 'revision', d.revision,
        'channel', d.channel_code, 'cause', r.cause, 'reserved_at', gate.utc_text(r.reserved_at),
        'expires_at', gate.utc_text(r.expires_at), 'at', gate.utc_text(r.resolved_at)))
    FROM gate.reservations r
    JOIN gate.decisions d ON d.decision_id = r.decision_id AND d.decided_at = coalesce(r.decided_at, r.reserved_at)
    WHERE r.decision_id = ANY (p_decision_id)
    ORDER BY r.decision_id
$$;

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
    PERFORM gate.reservations_tell(v_due, 'reservation.expired');
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
-- reserved comes back and stands in gate.overruns. Null where the reservation is not open: then nothing was booked (see
-- gate.reservation_fund, which books that, too).
CREATE FUNCTION gate.reservation_post(p_decision_id uuid, p_amount bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_row gate.reservations;
    v_balance bigint;
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
    -- A repayment may have been heard of first.
    SELECT balance INTO v_balance FROM gate.loan_balances WHERE decision_id = p_decision_id;
    SELECT array_agg(u.period_id), array_agg(-u.units),
           array_agg(gate.posted_units(b.measure, u.units, v_row.amount,
                                       CASE b.period WHEN 'outstanding' THEN least(p_amount, v_balance) ELSE p_amount END))
    INTO v_period, v_reserved, v_posted
    FROM gate.reservation_units u JOIN gate.budget_periods p USING (period_id) JOIN gate.budgets b USING (budget_id)
    WHERE u.decision_id = p_decision_id;
    IF v_period IS NOT NULL THEN
        PERFORM gate.budget_periods_move(v_period, v_reserved, v_posted);
    END IF;
    IF p_amount > v_row.amount THEN
        INSERT INTO gate.overruns (decision_id, kind, channel_id, amount, currency, at)
        VALUES (p_decision_id, 'above', v_row.channel_id, p_amount - v_row.amount, v_row.currency, clock_timestamp());
    END IF;
    RETURN greatest(p_amount - v_row.amount, 0);
END $$;

-- Books a funding, whatever has become of its accept. How: `posted`; `above`, by `overrun` minor units; `unreserved`,
-- where the accept had expired, was voided or had never been: then its whole amount is an overrun, in the period of the
-- accept, or that of p_at under the budgets of today; `again`, where it had been booked before: then nothing is booked;
-- `unknown`, where the log has no such decision.
CREATE FUNCTION gate.reservation_fund(p_decision_id uuid, p_amount bigint, p_at timestamptz)
RETURNS TABLE (booked text, overrun bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_row gate.reservations;
    v_decision record;
    v_balance bigint;
    v_overrun bigint := gate.reservation_post(p_decision_id, p_amount);
BEGIN
    IF v_overrun IS NOT NULL THEN
        RETURN QUERY SELECT CASE WHEN v_overrun > 0 THEN 'above' ELSE 'posted' END, v_overrun;
        RETURN;
    END IF;
    SELECT * INTO v_row FROM gate.reservations WHERE decision_id = p_decision_id FOR UPDATE;
    SELECT d.channel_id, d.tier, d.product, d.jurisdiction, d.currency INTO v_decision
    FROM gate.decisions d WHERE d.decision_id = p_decision_id
      AND (v_row.decision_id IS NULL OR d.decided_at = coalesce(v_row.decided_at, v_row.reserved_at));
    IF v_row.state = 'posted' THEN
        RETURN QUERY SELECT 'again', 0::bigint;
        RETURN;
    ELSIF v_decision.channel_id IS NULL AND v_row.decision_id IS NULL THEN
        RETURN QUERY SELECT 'unknown', 0::bigint;
        RETURN;
    END IF;
    INSERT INTO gate.overruns (decision_id, kind, channel_id, amount, currency, at)
    VALUES (p_decision_id, 'unreserved', coalesce(v_row.channel_id, v_decision.channel_id), p_amount,
            coalesce(v_row.currency, v_decision.currency), clock_timestamp())
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'again', 0::bigint;
        RETURN;
    END IF;
    IF v_row.decision_id IS NOT NULL THEN
        INSERT INTO gate.overrun_units (decision_id, period_id, units)
        SELECT p_decision_id, u.period_id, gate.posted_units(b.measure, u.units, v_row.amount, p_amount)
        FROM gate.reservation_units u JOIN gate.budget_periods p USING (period_id) JOIN gate.budgets b USING (budget_id)
        WHERE u.decision_id = p_decision_id;
    ELSE
        INSERT INTO gate.overrun_units (decision_id, period_id, units)
        SELECT p_decision_id, gate.budget_period_at(b.budget_id, p_at),
               gate.budget_units(b.measure, b.loss_rate_ppm, p_amount, v_decision.tier)
        FROM gate.budgets b
        WHERE b.ended_at IS NULL AND gate.budget_period_at(b.budget_id, p_at) IS NOT NULL
          AND gate.budget_covers(b, v_decision.channel_id, v_decision.tier, v_decision.product, v_decision.jurisdiction,
                                 v_decision.currency);
    END IF;
    SELECT balance INTO v_balance FROM gate.loan_balances WHERE decision_id = p_decision_id;
    PERFORM gate.budget_periods_move(array_agg(u.period_id), array_agg(0::bigint), array_agg(
        CASE WHEN b.period = 'outstanding' AND v_balance < p_amount
             THEN gate.posted_units(b.measure, u.units, p_amount, v_balance) ELSE u.units END))
    FROM gate.overrun_units u JOIN gate.budget_periods p USING (period_id) JOIN gate.budgets b USING (budget_id)
    WHERE u.decision_id = p_decision_id
    HAVING count(*) > 0;
    RETURN QUERY SELECT 'unreserved', p_amount;
END $$;

-- Says what is still owed of a loan at p_at (0: paid off or written off), and gives the rest back to its outstanding
-- budgets, never to a day or month. What is known of a later moment stays. False where that is so.
CREATE FUNCTION gate.loan_balance_put(p_decision_id uuid, p_balance bigint, p_at timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_before bigint;
BEGIN
    IF p_balance < 0 THEN
        RAISE EXCEPTION 'a balance is not negative' USING ERRCODE = 'CG422';
    END IF;
    -- Against a posting of the same loan: one of the two sees what the other has written.
    PERFORM FROM gate.reservations WHERE decision_id = p_decision_id FOR UPDATE;
    SELECT balance INTO v_before FROM gate.loan_balances WHERE decision_id = p_decision_id;
    INSERT INTO gate.loan_balances AS l (decision_id, balance, at) VALUES (p_decision_id, p_balance, p_at)
    ON CONFLICT (decision_id) DO UPDATE SET balance = p_balance, at = p_at WHERE l.at <= p_at;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM gate.budget_periods_move(array_agg(u.period_id), array_agg(0::bigint), array_agg(
        gate.posted_units(b.measure, u.units, u.amount, least(p_balance, u.posted))
        - gate.posted_units(b.measure, u.units, u.amount, least(v_before, u.posted))))
    FROM (SELECT n.period_id, n.units, r.amount, r.posted_amount AS posted
          FROM gate.reservations r JOIN gate.reservation_units n USING (decision_id)
          WHERE r.decision_id = p_decision_id AND r.state = 'posted'
          UNION ALL
          SELECT n.period_id, n.units, o.amount, o.amount
          FROM gate.overruns o JOIN gate.overrun_units n USING (decision_id)
          WHERE o.decision_id = p_decision_id AND o.kind = 'unreserved') u
    JOIN gate.budget_periods p USING (period_id) JOIN gate.budgets b USING (budget_id)
    WHERE b.period = 'outstanding'
    HAVING count(*) > 0;
    RETURN true;
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
        PERFORM gate.reservations_tell(v_open, 'reservation.voided');
    END IF;
    PERFORM gate.audit_append(p_actor, 'channel.void_reservations', p_code, NULL,
                              jsonb_build_object('voided', coalesce(cardinality(v_open), 0)), p_reason, p_request_id);
    RETURN coalesce(cardinality(v_open), 0);
END $$;

-- The kill switch: the channel is suspended or exits, and what it has open is voided, both or neither.
CREATE FUNCTION gate.channel_kill(
    p_code text, p_state text, p_expected_revision bigint, p_actor text, p_reason text, p_request_id text
) RETURNS TABLE (channel gate.channels, voided integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_channel gate.channels;
BEGIN
    IF p_state NOT IN ('suspended', 'exited') THEN
        RAISE EXCEPTION 'open reservations are voided where a channel is suspended or exits' USING ERRCODE = 'CG422';
    END IF;
    v_channel := gate.channel_set_state(p_code, p_state, p_expected_revision, p_actor, p_reason, p_request_id);
    RETURN QUERY SELECT v_channel, gate.channel_void_reservations(p_code, p_actor, p_reason, p_request_id);
END $$;
