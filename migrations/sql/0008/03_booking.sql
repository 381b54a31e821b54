-- Facts come in: from callers a few at a time, from files many. Both end in the same booking.

-- Books events and folds their applications anew; says how many were not known before and, where p_which, which of the
-- rows (from 1). An application's row is its lock: rows are made in the order of their keys, with the decision that is
-- known, then locked in the order of their numbers.
CREATE FUNCTION gate.outcomes_book(p_rows gate.outcome_row[], p_by text, p_which boolean, OUT new bigint, OUT which bigint[])
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = 'force_custom_plan' SET jit = off AS $$
#variable_conflict use_column
DECLARE
    v_subjects bigint[];
BEGIN
    INSERT INTO gate.application_outcomes (
        originator_id, application_id, decision_id, revision, decided_at, retention_class, outcome, channel_id, product,
        jurisdiction, tier, accepted_amount, currency, term_months, score, score_band)
    SELECT a.originator_id, a.application_id, b.*
    FROM (SELECT DISTINCT r.originator_id, r.application_id COLLATE "C" AS application_id FROM unnest(p_rows) r) a
    LEFT JOIN LATERAL gate.outcome_binding(a.originator_id, a.application_id) b ON true
    WHERE NOT EXISTS (SELECT FROM gate.application_outcomes o
                      WHERE o.originator_id = a.originator_id AND o.application_id = a.application_id)
    ORDER BY 1, 2
    ON CONFLICT DO NOTHING;
    SELECT array_agg(held.subject_id) INTO v_subjects FROM (
        SELECT o.subject_id FROM gate.application_outcomes o
        WHERE (o.originator_id, o.application_id) IN (
            SELECT r.originator_id, r.application_id COLLATE "C" FROM unnest(p_rows) r)
        ORDER BY o.subject_id FOR UPDATE) held;
    WITH given AS (
        SELECT DISTINCT ON (o.subject_id, r.kind, r.discriminator, r.correction, digest) o.subject_id, r.*,
               gate.outcome_digest(r.retracted, r.occurred_on, r.month_on_book, r.instalment, r.amount, r.currency,
                                   r.balance, r.days_past_due, r.rating) AS digest
        FROM unnest(p_rows) WITH ORDINALITY AS r (
                 originator_id, application_id, kind, discriminator, correction, retracted, occurred_on, month_on_book,
                 instalment, amount, currency, balance, days_past_due, rating, feed, n)
        JOIN gate.application_outcomes o
          ON o.originator_id = r.originator_id AND o.application_id = r.application_id COLLATE "C"
        ORDER BY o.subject_id, r.kind, r.discriminator, r.correction, digest, r.n
    ), put AS (
        INSERT INTO gate.outcome_events (subject_id, kind, discriminator, correction, digest, retracted, occurred_on,
                                         month_on_book, instalment, amount, currency, balance, days_past_due, rating,
                                         feed, received_by)
        SELECT g.subject_id, g.kind, g.discriminator, g.correction, g.digest, g.retracted, g.occurred_on,
               g.month_on_book, g.instalment, g.amount, g.currency, g.balance, g.days_past_due, g.rating, g.feed, p_by
        FROM given g
        ON CONFLICT DO NOTHING
        RETURNING subject_id, kind, discriminator, correction, digest
    )
    SELECT count(*), CASE WHEN p_which THEN (
        SELECT coalesce(array_agg(g.n), '{}') FROM given g JOIN put USING (subject_id, kind, discriminator, correction, digest)
    ) END INTO new, which FROM put;
    PERFORM gate.outcomes_refold(v_subjects);
END $$;

-- Books what a caller reports for its originator, and says of each row what became of it and which contradictions its
-- application now has: repeated (known already), superseded (a later version counts), waiting (no decision is known),
-- flagged, accepted.
CREATE FUNCTION gate.outcomes_post(p_originator_id integer, p_events jsonb, p_by text)
RETURNS TABLE (n integer, result text, status text, flags text[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_rows gate.outcome_row[];
    v_new bigint[];
BEGIN
    IF jsonb_array_length(p_events) NOT BETWEEN 1 AND 1000 THEN
        RAISE EXCEPTION 'between 1 and 1000 events are taken at a time' USING ERRCODE = 'CG422';
    END IF;
    SELECT array_agg(jsonb_populate_record(NULL::gate.outcome_row,
                                           e.event || jsonb_build_object('originator_id', p_originator_id)) ORDER BY e.n)
    INTO v_rows FROM jsonb_array_elements(p_events) WITH ORDINALITY AS e (event, n);
    SELECT b.which INTO v_new FROM gate.outcomes_book(v_rows, p_by, true) b;
    RETURN QUERY
    SELECT r.n::integer,
           CASE WHEN r.n <> ALL (v_new) THEN 'repeated'
                WHEN EXISTS (SELECT FROM gate.outcome_events e
                             WHERE e.subject_id = o.subject_id AND e.kind = r.kind AND e.discriminator = r.discriminator
                               AND (e.correction, e.digest) > (r.correction, gate.outcome_digest(
                                   r.retracted, r.occurred_on, r.month_on_book, r.instalment, r.amount, r.currency,
                                   r.balance, r.days_past_due, r.rating))) THEN 'superseded'
                WHEN o.decision_id IS NULL THEN 'waiting'
                WHEN o.flags <> '{}' THEN 'flagged'
                ELSE 'accepted' END,
           o.status, o.flags
    FROM unnest(v_rows) WITH ORDINALITY AS r (
             originator_id, application_id, kind, discriminator, correction, retracted, occurred_on, month_on_book,
             instalment, amount, currency, balance, days_past_due, rating, feed, n)
    JOIN gate.application_outcomes o
      ON o.originator_id = r.originator_id AND o.application_id = r.application_id COLLATE "C"
    ORDER BY r.n;
END $$;

-- Merges one slot of a load; merging it again changes nothing. Owner's work: a file is loaded by an operator.
CREATE FUNCTION gate.outcomes_merge(p_load_id uuid, p_slot smallint, p_by text)
RETURNS TABLE (events bigint, new bigint) LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_rows gate.outcome_row[];
BEGIN
    SELECT array_agg((t.originator_id, t.application_id, t.kind, t.discriminator, t.correction, t.retracted,
                      t.occurred_on, t.month_on_book, t.instalment, t.amount, t.currency, t.balance, t.days_past_due,
                      t.rating, t.feed)::gate.outcome_row) INTO v_rows
    FROM gate.outcome_staging t WHERE t.load_id = p_load_id AND t.slot = p_slot;
    IF v_rows IS NULL THEN
        RETURN QUERY SELECT 0::bigint, 0::bigint;
        RETURN;
    END IF;
    RETURN QUERY SELECT cardinality(v_rows)::bigint, b.new FROM gate.outcomes_book(v_rows, p_by, false) b;
END $$;

-- Gives facts that wait their application, where it has come since. Looks at p_limit of them after p_after; returns
-- where it came to (null: at the end) and how many it woke. Any number of replicas may run it.
CREATE FUNCTION gate.outcomes_wake(p_after bigint, p_limit integer) RETURNS TABLE (reached bigint, woken integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_seen bigint[];
    v_known bigint[];
BEGIN
    SELECT array_agg(w.subject_id), array_agg(w.subject_id) FILTER (WHERE w.known) INTO v_seen, v_known
    FROM (SELECT o.subject_id, EXISTS (SELECT FROM gate.decision_keys k WHERE k.originator_id = o.originator_id
                                       AND k.application_id = o.application_id) AS known
          FROM gate.application_outcomes o WHERE o.decision_id IS NULL AND o.subject_id > p_after
          ORDER BY o.subject_id LIMIT p_limit) w;
    IF v_known IS NOT NULL THEN
        SELECT array_agg(held.subject_id) INTO v_known FROM (
            SELECT o.subject_id FROM gate.application_outcomes o
            WHERE o.subject_id = ANY (v_known) AND o.decision_id IS NULL
            ORDER BY o.subject_id FOR UPDATE SKIP LOCKED) held;
        IF v_known IS NOT NULL THEN
            PERFORM gate.outcomes_refold(v_known);
        END IF;
    END IF;
    RETURN QUERY SELECT CASE WHEN cardinality(v_seen) = p_limit THEN v_seen[p_limit] END,
                        coalesce(cardinality(v_known), 0);
END $$;
