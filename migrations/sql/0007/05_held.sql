-- Decisions that nothing but a budget keeps from being accepts. They wait here for room, are screened again, and end with
-- what that comes to, which stands beside the decision, or lapse after three days. The decision itself stays as it was.

CREATE TABLE gate.held_queue (
    decision_id uuid PRIMARY KEY,
    decided_at timestamptz NOT NULL,
    retention_class text NOT NULL,
    originator_id integer NOT NULL,
    application_id text NOT NULL,
    revision smallint NOT NULL,
    channel_id integer NOT NULL,
    channel_code text NOT NULL,
    tier text NOT NULL,
    product text NOT NULL,
    jurisdiction text,
    amount bigint NOT NULL,
    currency text NOT NULL,
    lapses_at timestamptz NOT NULL,
    claimed_until timestamptz NOT NULL DEFAULT '-infinity',
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'resolved', 'lapsed', 'superseded')),
    closed_at timestamptz,
    policy_version integer,
    outcome text,
    next_action text,
    reason_codes text[],
    record bytea,
    response bytea,
    CONSTRAINT held_queue_closed CHECK ((state = 'waiting') = (closed_at IS NULL)),
    CONSTRAINT held_queue_resolved CHECK ((state = 'resolved') = (outcome IS NOT NULL)
                                              AND (outcome IS NULL) = (response IS NULL))
);
CREATE INDEX held_queue_waiting ON gate.held_queue (decided_at) WHERE state = 'waiting';
CREATE INDEX held_queue_closed_at ON gate.held_queue (closed_at) WHERE closed_at IS NOT NULL;

CREATE FUNCTION gate.close_once() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF OLD.state <> 'waiting' AND (NEW.record IS NOT NULL OR NEW.state <> OLD.state) THEN
        RAISE EXCEPTION 'a held decision is closed once' USING ERRCODE = 'CG409';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER held_queue_are_closed_once BEFORE UPDATE ON gate.held_queue
    FOR EACH ROW EXECUTE FUNCTION gate.close_once();

CREATE FUNCTION gate.hold_back() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO gate.held_queue (decision_id, decided_at, retention_class, originator_id, application_id, revision,
                                     channel_id, channel_code, tier, product, jurisdiction, amount, currency, lapses_at)
    VALUES (NEW.decision_id, NEW.decided_at, NEW.retention_class, NEW.originator_id, NEW.application_id, NEW.revision,
            NEW.channel_id, NEW.channel_code, NEW.tier, NEW.product, NEW.jurisdiction, NEW.amount, NEW.currency,
            NEW.decided_at + interval '3 days')
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER decisions_are_held_back AFTER INSERT ON gate.decisions
    FOR EACH ROW WHEN (NEW.next_action = 'held') EXECUTE FUNCTION gate.hold_back();

-- With the key of a decision goes what is held of it: where a flush takes a row out again, and when its time is over.
CREATE FUNCTION gate.held_forget() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM gate.held_queue h USING gone WHERE h.decision_id = gone.decision_id;
    RETURN NULL;
END $$;
CREATE TRIGGER decision_keys_take_what_is_held AFTER DELETE ON gate.decision_keys
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION gate.held_forget();

CREATE FUNCTION gate.held_erase() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE gate.held_queue SET record = NULL WHERE decision_id = NEW.decision_id AND record IS NOT NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER decisions_are_erased_with_what_is_held AFTER UPDATE OF erased_at ON gate.decisions
    FOR EACH ROW WHEN (NEW.next_action = 'held' AND NEW.erased_at IS NOT NULL) EXECUTE FUNCTION gate.held_erase();

-- How much an accept may take now of each open budget. Nothing, where its period has not been laid out.
CREATE FUNCTION gate.budget_rooms(p_at timestamptz) RETURNS TABLE (budget gate.budgets, room bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT b, coalesce(least(least(b.limit_units, p.cap_units) * b.overbooking_pct / 100 - p.reserved - p.posted,
                             least(b.limit_units, p.cap_units) - p.posted), 0)
    FROM gate.budgets b
    LEFT JOIN gate.budget_periods p ON p.budget_id = b.budget_id AND p.starts_at <= p_at AND p.ends_at > p_at
    WHERE b.ended_at IS NULL
$$;

-- Takes up to p_limit held decisions that every budget they fall under seems to have room for, the oldest first. Any
-- number of replicas may ask: what one has taken, no other gets before p_lease is over.
CREATE FUNCTION gate.held_claim(p_limit integer, p_lease interval)
RETURNS TABLE (decision_id uuid, originator_id integer, application_id text, revision smallint, input bytea)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH rooms AS MATERIALIZED (
        SELECT r.budget, r.room FROM gate.budget_rooms(now()) r
    ), due AS (
        SELECT h.decision_id FROM gate.held_queue h
        WHERE h.state = 'waiting' AND h.claimed_until <= now() AND h.lapses_at > now()
          AND NOT EXISTS (
              SELECT FROM rooms r
              WHERE gate.budget_covers(r.budget, h.channel_id, h.tier, h.product, h.jurisdiction, h.currency)
                AND r.room < gate.budget_units((r.budget).measure, (r.budget).loss_rate_ppm, h.amount, h.tier))
        ORDER BY h.decided_at LIMIT p_limit FOR UPDATE SKIP LOCKED
    ), claimed AS (
        UPDATE gate.held_queue h SET claimed_until = now() + p_lease
        FROM due WHERE h.decision_id = due.decision_id AND h.state = 'waiting' AND h.claimed_until <= now()
        RETURNING h.decision_id, h.decided_at, h.retention_class
    )
    SELECT d.decision_id, d.originator_id, d.application_id, d.revision, d.input
    FROM claimed c JOIN gate.decisions d USING (decision_id, decided_at, retention_class)
    WHERE d.input IS NOT NULL
    ORDER BY d.decided_at;
END $$;

-- Waits for whoever else decides on the same application or person, as the flush does. Comes after the fence and before
-- every other lock.
CREATE FUNCTION gate.application_lock(p_originator_id integer, p_application_id text, p_applicant_ref text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(484031197, s.subject)
    FROM (SELECT DISTINCT hashtext(n.name) AS subject
          FROM (VALUES ('a' || p_originator_id || ' ' || p_application_id), ('p' || p_applicant_ref)) n (name)
          WHERE n.name IS NOT NULL ORDER BY 1) s;
END $$;

-- Makes a stored decision an accept at p_at: one reservation with its units of these budgets, all or none. False where
-- one has no room: then nothing was made. The caller holds the fence (shared) and the application's lock, and has seen
-- to person, channel and policy; a second reservation of a decision breaks the key.
CREATE FUNCTION gate.reservation_make(
    p_decision_id uuid, p_decided_at timestamptz, p_retention_class text, p_channel_id integer, p_amount bigint,
    p_currency text, p_at timestamptz, p_budget_id bigint[], p_units bigint[]
) RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_period bigint[];
    v_units bigint[];
BEGIN
    SELECT coalesce(array_agg(gate.budget_period_at(l.budget_id, p_at) ORDER BY l.n), '{}'),
           coalesce(array_agg(l.units ORDER BY l.n), '{}')
    INTO v_period, v_units
    FROM unnest(p_budget_id, p_units) WITH ORDINALITY l (budget_id, units, n);
    IF array_position(v_period, NULL) IS NOT NULL THEN
        RETURN false;
    END IF;
    PERFORM FROM gate.budget_periods WHERE period_id = ANY (v_period) ORDER BY period_id FOR NO KEY UPDATE;
    IF EXISTS (
        SELECT FROM unnest(v_period, v_units) l (period_id, units)
        JOIN gate.budget_periods p USING (period_id) JOIN gate.budgets b USING (budget_id)
        WHERE l.units > least(least(b.limit_units, p.cap_units) * b.overbooking_pct / 100 - p.reserved - p.posted,
                              least(b.limit_units, p.cap_units) - p.posted))
    THEN
        RETURN false;
    END IF;
    INSERT INTO gate.reservations (decision_id, channel_id, amount, currency, reserved_at, expires_at, decided_at)
    SELECT p_decision_id, p_channel_id, p_amount, p_currency, p_at, p_at + make_interval(hours => t.hours), p_decided_at
    FROM gate.channels c
    JOIN gate.reservation_terms t ON t.channel_kind = c.kind AND t.retention_class = p_retention_class
    WHERE c.channel_id = p_channel_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'a reservation of this kind has no term' USING ERRCODE = 'XX000';
    END IF;
    INSERT INTO gate.reservation_units (decision_id, period_id, units)
    SELECT p_decision_id, l.period_id, l.units FROM unnest(v_period, v_units) l (period_id, units);
    IF cardinality(v_period) > 0 THEN
        PERFORM gate.budget_periods_move(v_period, v_units, array_fill(0::bigint, ARRAY[cardinality(v_units)]));
    END IF;
    RETURN true;
END $$;

-- What the log says of a stored application's person now, in the form that the flush compares.
CREATE FUNCTION gate.facts_now(p_decision gate.decisions, p_at timestamptz) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN p_decision.applicant_ref IS NULL THEN '- - - -'
                ELSE gate.person_facts(p_decision.applicant_ref, p_decision.product, p_decision.channel_id,
                                       p_decision.originator_id, p_decision.application_id, p_at) END
           || ' ' || gate.application_changes(p_decision.originator_id, p_decision.application_id, p_decision.revision,
                                              p_decision.amount, p_decision.input)
$$;

-- Ends a held decision with what screening it again at p_at has come to, where it rests on what is so now; an accept
-- reserves. As for a flush, p_facts and p_available are what it was settled with. Says:
--   resolved    it has ended so, and its originator is told,
--   unsettled   the facts are others: `facts` holds them as JSON; settle it with these,
--   stale       policy, channel or budgets have changed,
--   superseded  a newer revision of the application has been decided: that is its end,
--   closed      it has ended before.
CREATE FUNCTION gate.held_resolve(
    p_decision_id uuid, p_at timestamptz, p_policy_version integer, p_channel_revision bigint, p_budget_revision bigint,
    p_outcome text, p_next_action text, p_reason_codes text[], p_facts text, p_available boolean, p_budget_id bigint[],
    p_units bigint[], p_record bytea, p_response bytea
) RETURNS TABLE (status text, facts bytea) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_held gate.held_queue;
    v_decision gate.decisions;
    v_facts text;
BEGIN
    IF p_next_action = 'held' THEN
        RAISE EXCEPTION 'a held decision does not end as held' USING ERRCODE = 'CG422';
    END IF;
    PERFORM gate.fence_shared();
    SELECT * INTO v_held FROM gate.held_queue h WHERE h.decision_id = p_decision_id;
    SELECT * INTO v_decision FROM gate.decisions d
    WHERE d.decision_id = p_decision_id AND d.decided_at = v_held.decided_at
      AND d.retention_class = v_held.retention_class;
    IF v_decision.decision_id IS NULL THEN
        RETURN QUERY SELECT 'closed', NULL::bytea;
        RETURN;
    END IF;
    PERFORM gate.application_lock(v_held.originator_id, v_held.application_id, v_decision.applicant_ref);
    SELECT * INTO v_held FROM gate.held_queue h WHERE h.decision_id = p_decision_id FOR UPDATE;
    IF v_held.state IS DISTINCT FROM 'waiting' THEN
        RETURN QUERY SELECT 'closed', NULL::bytea;
        RETURN;
    ELSIF gate.held_superseded(v_held) THEN
        UPDATE gate.held_queue h SET state = 'superseded', closed_at = clock_timestamp()
        WHERE h.decision_id = p_decision_id;
        RETURN QUERY SELECT 'superseded', NULL::bytea;
        RETURN;
    ELSIF NOT EXISTS (SELECT FROM gate.state s
                      WHERE s.policy_version = p_policy_version AND s.budget_revision = p_budget_revision)
       OR NOT EXISTS (SELECT FROM gate.channels c
                      WHERE c.channel_id = v_held.channel_id AND c.revision = p_channel_revision) THEN
        RETURN QUERY SELECT 'stale', NULL::bytea;
        RETURN;
    END IF;
    v_facts := gate.facts_now(v_decision, p_at);
    IF v_facts <> p_facts THEN
        RETURN QUERY SELECT 'unsettled', gate.facts_document(v_facts, NULL);
        RETURN;
    ELSIF p_outcome = 'accept'
      AND NOT gate.reservation_make(p_decision_id, v_held.decided_at, v_held.retention_class, v_held.channel_id,
                                    v_held.amount, v_held.currency, p_at, p_budget_id, p_units) THEN
        RETURN QUERY SELECT 'unsettled', gate.facts_document(v_facts, false);
        RETURN;
    END IF;
    UPDATE gate.held_queue h
    SET state = 'resolved', closed_at = p_at, policy_version = p_policy_version, outcome = p_outcome,
        next_action = p_next_action, reason_codes = p_reason_codes, record = p_record, response = p_response
    WHERE h.decision_id = p_decision_id;
    PERFORM gate.event_put(v_held.originator_id, 'decision.resolved', p_decision_id::text, jsonb_build_object(
        'decision_id', p_decision_id, 'application_id', v_held.application_id, 'revision', v_held.revision,
        'channel', v_held.channel_code, 'outcome', p_outcome, 'next_action', p_next_action, 'by', 'budget',
        'at', gate.utc_text(p_at)));
    RETURN QUERY SELECT 'resolved', NULL::bytea;
END $$;

CREATE FUNCTION gate.held_superseded(p_held gate.held_queue) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM gate.decision_keys k
                   WHERE k.originator_id = p_held.originator_id AND k.application_id = p_held.application_id
                     AND k.revision > p_held.revision)
$$;

-- Ends what has waited its time out, and tells its originators; what has been superseded ends in silence. Any number of
-- replicas may run it. Returns how many have lapsed.
CREATE FUNCTION gate.held_lapse(p_limit integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_due gate.held_queue;
    v_lapsed integer := 0;
BEGIN
    FOR v_due IN
        SELECT * FROM gate.held_queue h WHERE h.state = 'waiting' AND h.lapses_at <= now()
        ORDER BY h.decided_at LIMIT p_limit FOR UPDATE SKIP LOCKED
    LOOP
        IF gate.held_superseded(v_due) THEN
            UPDATE gate.held_queue SET state = 'superseded', closed_at = clock_timestamp()
            WHERE decision_id = v_due.decision_id;
            CONTINUE;
        END IF;
        UPDATE gate.held_queue SET state = 'lapsed', closed_at = clock_timestamp()
        WHERE decision_id = v_due.decision_id;
        PERFORM gate.event_put(v_due.originator_id, 'reservation.lapsed', v_due.decision_id::text, jsonb_build_object(
            'decision_id', v_due.decision_id, 'application_id', v_due.application_id, 'revision', v_due.revision,
            'channel', v_due.channel_code, 'held_since', gate.utc_text(v_due.decided_at),
            'at', gate.utc_text(clock_timestamp())));
        v_lapsed := v_lapsed + 1;
    END LOOP;
    RETURN v_lapsed;
END $$;

SELECT gate.forbid_truncate('gate.held_queue');
