-- What leaves the log, and what is left of it.

-- Every month that was dropped, and what it held. `digest` is sha256 over the digests of its days.
CREATE TABLE gate.dropped_months (
    retention_class text NOT NULL,
    month date NOT NULL,
    dropped_at timestamptz NOT NULL,
    decisions bigint NOT NULL,
    kept bigint NOT NULL,
    digest bytea NOT NULL,
    PRIMARY KEY (retention_class, month)
);
CREATE TRIGGER dropped_months_are_immutable BEFORE UPDATE OR DELETE ON gate.dropped_months
    FOR EACH ROW EXECUTE FUNCTION gate.refuse_change();

-- The decisions that outlived their month: on hold, or closed late. They stay in the log, in a table of their own that
-- has taken the dropped partition's place, so that a retry, a read and an erasure still find them.
CREATE VIEW gate.held_decisions AS
SELECT d.* FROM gate.dropped_months m JOIN gate.decisions d
  ON d.retention_class = m.retention_class
 AND d.decided_at >= m.month::timestamp AT TIME ZONE 'UTC'
 AND d.decided_at < (m.month + interval '1 month')::timestamp AT TIME ZONE 'UTC';

-- Loans without people: one row for all decisions of a month that are alike in what is left. No id, no reference, no
-- moment; the amount is rounded down to two digits. Decisions that are kept are counted as well.
CREATE TABLE gate.decision_facts (
    fact_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    month date NOT NULL,
    retention_class text NOT NULL,
    channel_id integer NOT NULL REFERENCES gate.channels,
    product text NOT NULL,
    jurisdiction text,
    tier text NOT NULL,
    policy_version integer NOT NULL,
    outcome text NOT NULL,
    currency text NOT NULL,
    amount_band bigint NOT NULL,
    term_months smallint NOT NULL,
    reason_codes text[] NOT NULL,
    decisions bigint NOT NULL
);
CREATE INDEX decision_facts_month ON gate.decision_facts (month, channel_id);

CREATE FUNCTION gate.amount_band(p_amount bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS
    $$ SELECT p_amount - p_amount % power(10, greatest(length(p_amount::text) - 2, 0))::bigint $$;

-- The end of a decision's time: whoever asks with less than the law's months is refused (Reg B, 1002.12(b)).
CREATE FUNCTION gate.require_period(p_retention_class text, p_months integer) RETURNS interval
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_least integer := CASE p_retention_class WHEN 'consumer' THEN 25 WHEN 'business' THEN 12 END;
BEGIN
    IF v_least IS NULL THEN
        RAISE EXCEPTION 'there is no such retention class' USING ERRCODE = 'CG422';
    ELSIF p_months IS NULL OR p_months < v_least THEN
        RAISE EXCEPTION 'decisions of this class are kept for at least % months', v_least USING ERRCODE = 'CG422';
    END IF;
    RETURN make_interval(months => p_months);
END $$;

-- The months of a class that have a partition and are past their time as a whole, oldest first. `dropped` ones hold
-- only what outlived them.
CREATE FUNCTION gate.retention_due(p_retention_class text, p_months integer)
RETURNS TABLE (month date, dropped boolean)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    v_period interval := gate.require_period(p_retention_class, p_months);
BEGIN
    RETURN QUERY
    SELECT p.first_of_month,
           EXISTS (SELECT FROM gate.dropped_months m
                   WHERE m.retention_class = p_retention_class AND m.month = p.first_of_month)
    FROM (SELECT to_date(right(c.relname, 7), 'YYYY_MM') AS first_of_month
          FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
          WHERE i.inhparent = to_regclass('gate.decisions_' || p_retention_class)) p
    WHERE (p.first_of_month + interval '1 month')::timestamptz + v_period <= now()
    ORDER BY 1;
END $$;

CREATE FUNCTION gate.require_due(p_retention_class text, p_month date, p_months integer) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_dropped boolean;
BEGIN
    SELECT d.dropped INTO v_dropped FROM gate.retention_due(p_retention_class, p_months) d WHERE d.month = p_month;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'that month is not there or not past its time' USING ERRCODE = 'CG409';
    END IF;
    RETURN v_dropped;
END $$;

-- How many decisions a month holds, and how many of them must be kept.
CREATE FUNCTION gate.retention_preview(p_retention_class text, p_month date, p_months integer)
RETURNS TABLE (decisions bigint, kept bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
    SELECT count(*), count(*) FILTER (WHERE c.on_hold OR c.clock_start + make_interval(months => p_months) > now())
    FROM gate.decision_custody c
    WHERE c.retention_class = p_retention_class
      AND c.decided_at >= p_month::timestamptz AND c.decided_at < (p_month + interval '1 month')::timestamptz
$$;

-- Deletes keys of a month that is due, for p_limit decisions after p_after in the order of ids, in a transaction of its
-- own: a request that reuses one of them waits for a moment, not for the whole month. Returns where it came to, or no
-- row at the end.
CREATE FUNCTION gate.keys_expire(
    p_retention_class text, p_month date, p_months integer, p_after uuid, p_limit integer
) RETURNS TABLE (reached uuid, deleted bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
SET plan_cache_mode = 'force_custom_plan' AS $$
BEGIN
    PERFORM gate.require_due(p_retention_class, p_month, p_months);
    PERFORM gate.custody_lock();
    RETURN QUERY
    WITH batch AS MATERIALIZED (
        SELECT * FROM gate.decision_custody c
        WHERE c.retention_class = p_retention_class AND c.decided_at >= p_month::timestamptz
          AND c.decided_at < (p_month + interval '1 month')::timestamptz
          AND c.decision_id > coalesce(p_after, '00000000-0000-0000-0000-000000000000')
        ORDER BY c.decision_id LIMIT p_limit
    ), gone AS (
        DELETE FROM gate.decision_keys k USING batch b
        WHERE NOT b.on_hold AND b.clock_start + make_interval(months => p_months) <= now()
          AND k.originator_id = b.originator_id AND k.application_id = b.application_id AND k.revision = b.revision
          AND k.decision_id = b.decision_id
        RETURNING 1
    )
    SELECT b.decision_id, (SELECT count(*) FROM gone) FROM batch b ORDER BY b.decision_id DESC LIMIT 1;
END $$;

-- Waits for the moment in which a partition can be taken away. A lock that waits makes every decision behind it wait,
-- so each attempt is short; the caller's transaction keeps what it has done so far.
CREATE FUNCTION gate.lock_for_drop(p_parent text, p_partition text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '200ms' AS $$
BEGIN
    FOR v_attempt IN 1 .. 20 LOOP
        BEGIN
            EXECUTE format('LOCK TABLE ONLY gate.%I, gate.%I IN ACCESS EXCLUSIVE MODE', p_parent, p_partition);
            RETURN;
        EXCEPTION WHEN lock_not_available THEN
            IF v_attempt = 20 THEN
                RAISE EXCEPTION 'the log is being read by someone who does not finish' USING ERRCODE = 'CG409';
            END IF;
            PERFORM pg_sleep(0.5);
        END;
    END LOOP;
END $$;

-- Drops one month, in one transaction with everything that must outlive it. Needs the month's digests.
CREATE FUNCTION gate.month_drop(
    p_retention_class text, p_month date, p_months integer, p_actor text, p_request_id text
) RETURNS TABLE (decisions bigint, kept bigint, facts bigint, digest bytea)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
#variable_conflict use_column
DECLARE
    v_from timestamptz := p_month::timestamptz;
    v_to timestamptz := (p_month + interval '1 month')::timestamptz;
    v_parent text := 'decisions_' || p_retention_class;
    v_name text := v_parent || '_' || to_char(p_month, 'YYYY_MM');
    v_decisions bigint;
    v_kept bigint;
    v_facts bigint;
    v_digested bigint;
    v_digest bytea;
BEGIN
    IF gate.require_due(p_retention_class, p_month, p_months) THEN
        RAISE EXCEPTION 'that month has been dropped already' USING ERRCODE = 'CG409';
    END IF;
    PERFORM gate.custody_lock();

    INSERT INTO gate.decision_facts (month, retention_class, channel_id, product, jurisdiction, tier, policy_version,
                                     outcome, currency, amount_band, term_months, reason_codes, decisions)
    SELECT p_month, d.retention_class, d.channel_id, d.product, d.jurisdiction, d.tier, d.policy_version, d.outcome,
           d.currency, gate.amount_band(d.amount), d.term_months, d.reason_codes, count(*)
    FROM gate.decisions d
    WHERE d.retention_class = p_retention_class AND d.decided_at >= v_from AND d.decided_at < v_to
    GROUP BY d.retention_class, d.channel_id, d.product, d.jurisdiction, d.tier, d.policy_version, d.outcome,
             d.currency, gate.amount_band(d.amount), d.term_months, d.reason_codes;
    GET DIAGNOSTICS v_facts = ROW_COUNT;
    SELECT coalesce(sum(f.decisions), 0) INTO v_decisions FROM gate.decision_facts f
    WHERE f.month = p_month AND f.retention_class = p_retention_class;

    SELECT coalesce(sum(j.decisions), 0), sha256(coalesce(string_agg(j.digest, '' ORDER BY j.day), ''))
    INTO v_digested, v_digest
    FROM gate.journal_digests j
    WHERE j.retention_class = p_retention_class AND j.day >= p_month AND j.day < (p_month + interval '1 month')::date;
    IF v_digested <> v_decisions THEN
        RAISE EXCEPTION 'the digests of the month do not count what it holds: digest and verify it first'
            USING ERRCODE = 'CG409';
    END IF;

    EXECUTE format('CREATE TABLE gate.%I (LIKE gate.decisions INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)',
                   v_name || '_kept');
    PERFORM gate.forbid_truncate(format('gate.%I', v_name || '_kept')::regclass);
    EXECUTE format(
        'INSERT INTO gate.%I SELECT d.* FROM gate.decisions d
         WHERE d.retention_class = $1 AND d.decided_at >= $2 AND d.decided_at < $3 AND d.decision_id IN (
             SELECT c.decision_id FROM gate.decision_custody c
             WHERE c.retention_class = $1 AND c.decided_at >= $2 AND c.decided_at < $3
               AND (c.on_hold OR c.clock_start + make_interval(months => $4) > now()))', v_name || '_kept')
    USING p_retention_class, v_from, v_to, p_months;
    GET DIAGNOSTICS v_kept = ROW_COUNT;

    -- Keys that gate.keys_expire has left; and those of decisions that came under hold after it had passed.
    EXECUTE format(
        'DELETE FROM gate.decision_keys k USING gate.decisions d
         WHERE d.retention_class = $1 AND d.decided_at >= $2 AND d.decided_at < $3
           AND k.originator_id = d.originator_id AND k.application_id = d.application_id AND k.revision = d.revision
           AND k.decision_id = d.decision_id
           AND NOT EXISTS (SELECT FROM gate.%I h WHERE h.decision_id = d.decision_id)', v_name || '_kept')
    USING p_retention_class, v_from, v_to;
    EXECUTE format(
        'INSERT INTO gate.decision_keys (originator_id, application_id, revision, retention_class, decided_at,
                                         decision_id, fingerprint)
         SELECT originator_id, application_id, revision, retention_class, decided_at, decision_id, fingerprint
         FROM gate.%I ORDER BY originator_id, application_id, revision ON CONFLICT DO NOTHING', v_name || '_kept');

    PERFORM gate.lock_for_drop(v_parent, v_name);
    EXECUTE format('DROP TABLE gate.%I', v_name);
    IF v_kept > 0 THEN
        EXECUTE format('ALTER TABLE gate.%I RENAME TO %I', v_name || '_kept', v_name);
        EXECUTE format('ALTER TABLE gate.%I ATTACH PARTITION gate.%I FOR VALUES FROM (%L) TO (%L)',
                       v_parent, v_name, v_from, v_to);
    ELSE
        EXECUTE format('DROP TABLE gate.%I', v_name || '_kept');
    END IF;
    INSERT INTO gate.dropped_months (retention_class, month, dropped_at, decisions, kept, digest)
    VALUES (p_retention_class, p_month, clock_timestamp(), v_decisions, v_kept, v_digest);
    PERFORM gate.audit_append(
        p_actor, 'retention.drop', v_name, NULL,
        jsonb_build_object('decisions', v_decisions, 'kept', v_kept, 'facts', v_facts, 'months', p_months,
                           'digest', encode(v_digest, 'hex')), NULL, p_request_id);
    RETURN QUERY SELECT v_decisions, v_kept, v_facts, v_digest;
END $$;

-- Removes from a dropped month what no hold keeps any longer and whose time is over, with its keys; an empty one goes
-- altogether. Returns how many went.
CREATE FUNCTION gate.month_sweep(
    p_retention_class text, p_month date, p_months integer, p_actor text, p_request_id text
) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    v_from timestamptz := p_month::timestamptz;
    v_to timestamptz := (p_month + interval '1 month')::timestamptz;
    v_parent text := 'decisions_' || p_retention_class;
    v_name text := v_parent || '_' || to_char(p_month, 'YYYY_MM');
    v_gone bigint;
    v_left bigint;
BEGIN
    IF NOT gate.require_due(p_retention_class, p_month, p_months) THEN
        RAISE EXCEPTION 'that month has not been dropped' USING ERRCODE = 'CG409';
    END IF;
    PERFORM gate.custody_lock();
    WITH over AS (
        SELECT c.decision_id FROM gate.decision_custody c
        WHERE c.retention_class = p_retention_class AND c.decided_at >= v_from AND c.decided_at < v_to
          AND NOT c.on_hold AND c.clock_start + make_interval(months => p_months) <= now()
    ), gone AS (
        DELETE FROM gate.decisions d USING over
        WHERE d.retention_class = p_retention_class AND d.decided_at >= v_from AND d.decided_at < v_to
          AND d.decision_id = over.decision_id
        RETURNING d.originator_id, d.application_id, d.revision, d.decision_id
    ), keys AS (
        DELETE FROM gate.decision_keys k USING gone
        WHERE k.originator_id = gone.originator_id AND k.application_id = gone.application_id
          AND k.revision = gone.revision AND k.decision_id = gone.decision_id
    )
    SELECT count(*) INTO v_gone FROM gone;
    EXECUTE format('SELECT count(*) FROM gate.%I', v_name) INTO v_left;
    IF v_left = 0 THEN
        PERFORM gate.lock_for_drop(v_parent, v_name);
        EXECUTE format('DROP TABLE gate.%I', v_name);
    END IF;
    IF v_gone > 0 THEN
        PERFORM gate.audit_append(p_actor, 'retention.sweep', v_name, NULL,
                                  jsonb_build_object('removed', v_gone, 'left', v_left), NULL, p_request_id);
    END IF;
    RETURN v_gone;
END $$;

SELECT gate.forbid_truncate('gate.dropped_months', 'gate.decision_facts');
