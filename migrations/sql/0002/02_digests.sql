-- The daily digest: what a day of the log was, so that a later change of it shows.

-- One row a day and class, chained: digest = sha256(previous_digest || the day as a JSON array). It covers what
-- survives the erasure of a person. The hours are kept too, so that memory stays bounded and a fault has an hour.
CREATE TABLE gate.journal_digests (
    day date NOT NULL,
    retention_class text NOT NULL,
    decisions bigint NOT NULL,
    hour_decisions bigint[] NOT NULL,
    hour_digests bytea[] NOT NULL,
    previous_digest bytea NOT NULL,
    digest bytea NOT NULL,
    made_at timestamptz NOT NULL,
    PRIMARY KEY (day, retention_class)
);
CREATE TRIGGER journal_digests_are_immutable BEFORE UPDATE OR DELETE ON gate.journal_digests
    FOR EACH ROW EXECUTE FUNCTION gate.refuse_change();

-- How many decisions a channel had on a day.
CREATE TABLE gate.channel_days (
    day date NOT NULL,
    channel_id integer NOT NULL REFERENCES gate.channels,
    decisions bigint NOT NULL,
    accepts bigint NOT NULL,
    escalates bigint NOT NULL,
    rejects bigint NOT NULL,
    PRIMARY KEY (day, channel_id)
);

-- Finds the rows of an hour. Rows arrive in the order of their time, so an index of ranges costs next to nothing.
CREATE INDEX decisions_decided_at ON gate.decisions USING brin (decided_at) WITH (autosummarize = on);

-- The hours of a day that have decisions. A row's hash is sha256 over a JSON array in jsonb's text form; an hour's
-- digest is sha256 over the hashes in the order of the ids (as UUIDs, which is their bytes).
CREATE FUNCTION gate.journal_hours(p_retention_class text, p_day date)
RETURNS TABLE (hour integer, decisions bigint, digest bytea)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
SET plan_cache_mode = 'force_custom_plan' AS $$
DECLARE
    v_from timestamptz;
BEGIN
    FOR v_hour IN 0 .. 23 LOOP
        v_from := p_day::timestamp AT TIME ZONE 'UTC' + make_interval(hours => v_hour);
        RETURN QUERY
        SELECT v_hour, count(*), sha256(string_agg(r.row_hash, '' ORDER BY r.decision_id))
        FROM (SELECT d.decision_id, sha256(convert_to(jsonb_build_array(
                         d.decision_id, (extract(epoch FROM d.decided_at) * 1000000)::bigint, d.retention_class,
                         d.originator_id, d.application_id, d.revision, d.channel_id, d.product, d.tier,
                         d.policy_version, d.outcome, d.next_action, d.amount, d.currency, d.term_months,
                         d.reason_codes, encode(d.fingerprint, 'hex'), encode(d.content_digest, 'hex'),
                         encode(sha256(d.response), 'hex'))::text, 'UTF8')) AS row_hash
              FROM gate.decisions d
              WHERE d.retention_class = p_retention_class
                AND d.decided_at >= v_from AND d.decided_at < v_from + interval '1 hour') r
        HAVING count(*) > 0;
    END LOOP;
END $$;

CREATE FUNCTION gate.day_digest(
    p_previous bytea, p_day date, p_retention_class text, p_hour_decisions bigint[], p_hour_digests bytea[]
) RETURNS bytea LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT sha256(p_previous || convert_to(jsonb_build_array(
        p_day, p_retention_class, to_jsonb(p_hour_decisions),
        (SELECT coalesce(jsonb_agg(encode(h.digest, 'hex') ORDER BY h.place), '[]')
         FROM unnest(p_hour_digests) WITH ORDINALITY AS h (digest, place)))::text, 'UTF8'))
$$;

-- The first day that is still to be digested, and the last one that is safely over: five minutes of clock skew.
CREATE FUNCTION gate.journal_days_due() RETURNS TABLE (first_day date, last_day date)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
BEGIN
    SELECT max(day) + 1 INTO first_day FROM gate.journal_digests;
    IF first_day IS NULL THEN
        SELECT min(decided_at)::date INTO first_day FROM gate.decisions;
    END IF;
    last_day := (now() - interval '5 minutes')::date - 1;
    RETURN NEXT;
END $$;

-- Returns once every flush that had begun has ended: a commit that waits for a standby is not seen, yet it will be.
CREATE FUNCTION gate.journal_barrier() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS
    $$ SELECT pg_advisory_xact_lock(4840311976251041) $$;

-- Digests one day, the next one in the chain, and counts its channels. Call gate.journal_barrier first, by itself.
CREATE FUNCTION gate.journal_digest_make(p_day date, p_actor text, p_request_id text)
RETURNS SETOF gate.journal_digests
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    v_due record;
    v_class text;
    v_previous bytea;
    v_row gate.journal_digests;
    v_after jsonb := '{}';
BEGIN
    PERFORM gate.custody_lock();
    SELECT * INTO v_due FROM gate.journal_days_due();
    IF p_day > v_due.last_day THEN
        RAISE EXCEPTION 'the day is not safely over yet' USING ERRCODE = 'CG409';
    ELSIF p_day IS DISTINCT FROM v_due.first_day THEN
        RAISE EXCEPTION 'the next day to digest is %', coalesce(v_due.first_day::text, 'none') USING ERRCODE = 'CG409';
    END IF;
    FOREACH v_class IN ARRAY ARRAY['business', 'consumer'] LOOP
        SELECT digest INTO v_previous FROM gate.journal_digests
        WHERE day = p_day - 1 AND retention_class = v_class;
        v_row := NULL;
        SELECT coalesce(array_agg(h.decisions ORDER BY h.n), '{}'), coalesce(array_agg(h.digest ORDER BY h.n), '{}'),
               coalesce(sum(h.decisions), 0)
        INTO v_row.hour_decisions, v_row.hour_digests, v_row.decisions
        FROM (SELECT n, coalesce(f.decisions, 0) AS decisions, coalesce(f.digest, '\x'::bytea) AS digest
              FROM generate_series(0, 23) n LEFT JOIN gate.journal_hours(v_class, p_day) f ON f.hour = n) h;
        v_row.day := p_day;
        v_row.retention_class := v_class;
        v_row.previous_digest := coalesce(v_previous, '\x');
        v_row.digest := gate.day_digest(v_row.previous_digest, p_day, v_class, v_row.hour_decisions, v_row.hour_digests);
        v_row.made_at := clock_timestamp();
        INSERT INTO gate.journal_digests SELECT v_row.*;
        v_after := v_after || jsonb_build_object(
            v_class, jsonb_build_object('decisions', v_row.decisions, 'digest', encode(v_row.digest, 'hex')));
        RETURN NEXT v_row;
    END LOOP;
    INSERT INTO gate.channel_days (day, channel_id, decisions, accepts, escalates, rejects)
    SELECT p_day, channel_id, count(*), count(*) FILTER (WHERE outcome = 'accept'),
           count(*) FILTER (WHERE outcome = 'escalate'), count(*) FILTER (WHERE outcome = 'reject')
    FROM gate.decisions
    WHERE decided_at >= p_day::timestamp AT TIME ZONE 'UTC' AND decided_at < (p_day + 1)::timestamp AT TIME ZONE 'UTC'
    GROUP BY channel_id;
    PERFORM gate.audit_append(p_actor, 'journal.digest', p_day::text, NULL, v_after, NULL, p_request_id);
END $$;

-- Decisions of a day whose input and record are not what they were, at most p_limit of them. Erased ones have neither.
CREATE FUNCTION gate.journal_content_faults(p_retention_class text, p_day date, p_limit integer)
RETURNS SETOF uuid LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
    SELECT d.decision_id FROM gate.decisions d
    WHERE d.retention_class = p_retention_class
      AND d.decided_at >= p_day::timestamp AT TIME ZONE 'UTC'
      AND d.decided_at < (p_day + 1)::timestamp AT TIME ZONE 'UTC'
      AND CASE WHEN d.erased_at IS NULL THEN sha256(d.input || d.record) IS DISTINCT FROM d.content_digest
               ELSE num_nonnulls(d.input, d.record, d.applicant_ref) > 0 END
    LIMIT p_limit
$$;

SELECT gate.forbid_truncate('gate.journal_digests');
