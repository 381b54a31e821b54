-- The flush, with what only it can know of persons and budgets. Lock order: fence; applications and persons, by hash;
-- keys in sorted order; reservations; budget periods by id. What else takes several of these takes them in this order.

DROP FUNCTION gate.journal_flush(json, bytea, integer[], text[], integer[], bigint[], bigint[]);

-- What the log says of a person who has applied in the 30 days before: open accepts of the product, rejections through
-- other channels, applications and channels with this one. An application's own revisions do not count against it.
-- Counts stop at the newest thousand rows that the index gives.
CREATE FUNCTION gate.person_facts(
    p_applicant_ref text, p_product text, p_channel_id integer, p_originator_id integer, p_application_id text,
    p_at timestamptz
) RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT concat_ws(' ',
        count(*) FILTER (WHERE r.state = 'reserved' AND d.product = p_product AND NOT own),
        count(*) FILTER (WHERE d.outcome = 'reject' AND d.channel_id <> p_channel_id),
        count(DISTINCT (d.originator_id, d.application_id)) FILTER (WHERE NOT own) + 1,
        count(DISTINCT d.channel_id) FILTER (WHERE d.channel_id <> p_channel_id) + 1)
    FROM (SELECT e.*, e.originator_id = p_originator_id AND e.application_id = p_application_id AS own
          FROM gate.decisions e
          WHERE e.applicant_ref = p_applicant_ref AND e.decided_at > p_at - interval '30 days'
            AND e.decided_at < p_at + interval '1 day'
          LIMIT 1000) d
    LEFT JOIN gate.reservations r ON r.decision_id = d.decision_id AND d.outcome <> 'reject'
$$;

-- The stated income in a stored request, as it is written; null where it says none or cannot be read.
CREATE FUNCTION gate.input_income(p_input bytea) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN convert_from(p_input, 'UTF8')::jsonb #>> '{applicant,monthly_income}';
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END $$;

-- How often income or amount has changed from one revision of an application to the next, this one included.
CREATE FUNCTION gate.application_changes(
    p_originator_id integer, p_application_id text, p_revision smallint, p_amount bigint, p_input bytea
) RETURNS bigint LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(*) FILTER (WHERE amount <> amount_before OR income IS DISTINCT FROM income_before)
    FROM (
        SELECT amount, income, lag(amount) OVER w AS amount_before,
               CASE WHEN lag(amount) OVER w IS NULL THEN income ELSE lag(income) OVER w END AS income_before
        FROM (
            SELECT d.revision, d.amount, gate.input_income(d.input) AS income
            FROM gate.decision_keys k JOIN gate.decisions d
              ON d.decision_id = k.decision_id AND d.decided_at = k.decided_at AND d.retention_class = k.retention_class
            WHERE k.originator_id = p_originator_id AND k.application_id = p_application_id AND k.revision < p_revision
            UNION ALL
            SELECT p_revision, p_amount, gate.input_income(p_input)
        ) revisions WINDOW w AS (ORDER BY revision)
    ) changes
$$;

-- Facts as JSON, from '<open accepts> <rejections> <applications> <channels> <changes>' ('-': not known).
CREATE FUNCTION gate.facts_document(p_facts text, p_available boolean) RETURNS bytea
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT convert_to(json_strip_nulls(json_build_object(
        'person.open_accepts', nullif(f[1], '-')::bigint, 'person.rejects_elsewhere_30d', nullif(f[2], '-')::bigint,
        'person.applications_30d', nullif(f[3], '-')::bigint, 'person.channels_30d', nullif(f[4], '-')::bigint,
        'application.changes', f[5]::bigint, 'budget.available', p_available))::text, 'UTF8')
    FROM string_to_array(p_facts, ' ') f
$$;

-- Takes the units of accepts that have been stored, row by row in order of arrival: all budgets of a row or none. What
-- an amendment supersedes goes back before its own row is looked at. A row expects its budgets to be available, and
-- takes them, or not to be. The answer are the positions of rows that expected it wrongly; the caller removes them.
CREATE FUNCTION gate.flush_budgets(
    p_decision_id uuid[], p_decided_at timestamptz[], p_available boolean[], p_won uuid[],
    p_row integer[], p_budget_id bigint[], p_units bigint[], p_given_row integer[], p_given uuid[]
) RETURNS integer[] LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_line_row integer[];
    v_line_period bigint[];
    v_line_units bigint[];
    v_given_row integer[];
    v_given_period bigint[];
    v_given_units bigint[];
    v_period bigint[];
    v_bookable bigint[];
    v_postable bigint[];
    v_delta bigint[];
    v_wrong integer[] := '{}';
    v_from integer := 1;
    v_to integer;
    v_given_from integer := 1;
    v_given_to integer;
    v_at integer;
    v_row integer;
    v_fits boolean;
BEGIN
    SELECT array_agg(l.row ORDER BY l.row, l.n), array_agg(l.period_id ORDER BY l.row, l.n),
           array_agg(l.units ORDER BY l.row, l.n)
    INTO v_line_row, v_line_period, v_line_units
    FROM (SELECT u.row, u.units, u.n, gate.budget_period_at(u.budget_id, p_decided_at[u.row]) AS period_id
          FROM unnest(p_row, p_budget_id, p_units) WITH ORDINALITY u (row, budget_id, units, n)
          WHERE p_decision_id[u.row] = ANY (p_won)) l;
    SELECT array_agg(g.row ORDER BY g.row), array_agg(u.period_id ORDER BY g.row), array_agg(u.units ORDER BY g.row)
    INTO v_given_row, v_given_period, v_given_units
    FROM unnest(p_given_row, p_given) g (row, decision_id) JOIN gate.reservation_units u USING (decision_id);
    IF v_line_row IS NULL AND v_given_row IS NULL THEN
        RETURN v_wrong;
    END IF;
    INSERT INTO gate.reservation_units (decision_id, period_id, units)
    SELECT p_decision_id[l.row], l.period_id, l.units
    FROM unnest(v_line_row, v_line_period, v_line_units) l (row, period_id, units)
    WHERE p_available[l.row] AND l.period_id IS NOT NULL;

    SELECT array_agg(p.period_id), array_agg(p.bookable), array_agg(p.postable), array_agg(0::bigint)
    INTO v_period, v_bookable, v_postable, v_delta
    FROM (SELECT p.period_id,
                 least(b.limit_units, p.cap_units) * b.overbooking_pct / 100 - p.reserved - p.posted AS bookable,
                 least(b.limit_units, p.cap_units) - p.posted AS postable
          FROM gate.budget_periods p JOIN gate.budgets b USING (budget_id)
          WHERE p.period_id = ANY (v_line_period || v_given_period)
          ORDER BY p.period_id FOR NO KEY UPDATE OF p) p;

    WHILE v_from <= coalesce(cardinality(v_line_row), 0) OR v_given_from <= coalesce(cardinality(v_given_row), 0) LOOP
        v_row := least(v_line_row[v_from], v_given_row[v_given_from]);
        v_given_to := v_given_from;
        WHILE v_given_row[v_given_to] = v_row LOOP
            v_at := array_position(v_period, v_given_period[v_given_to]);
            v_bookable[v_at] := v_bookable[v_at] + v_given_units[v_given_to];
            v_delta[v_at] := v_delta[v_at] - v_given_units[v_given_to];
            v_given_to := v_given_to + 1;
        END LOOP;
        v_to := v_from;
        v_fits := true;
        WHILE v_line_row[v_to] = v_row LOOP
            v_at := array_position(v_period, v_line_period[v_to]);
            v_fits := v_fits AND v_at IS NOT NULL
                      AND v_line_units[v_to] <= least(v_bookable[v_at], v_postable[v_at]);
            v_to := v_to + 1;
        END LOOP;
        IF v_to > v_from AND v_fits IS DISTINCT FROM p_available[v_row] THEN
            v_wrong := v_wrong || v_row;
            FOR i IN v_given_from .. v_given_to - 1 LOOP
                v_at := array_position(v_period, v_given_period[i]);
                v_bookable[v_at] := v_bookable[v_at] - v_given_units[i];
                v_delta[v_at] := v_delta[v_at] + v_given_units[i];
            END LOOP;
        ELSIF v_to > v_from AND v_fits THEN
            FOR i IN v_from .. v_to - 1 LOOP
                v_at := array_position(v_period, v_line_period[i]);
                v_bookable[v_at] := v_bookable[v_at] - v_line_units[i];
                v_delta[v_at] := v_delta[v_at] + v_line_units[i];
            END LOOP;
        END IF;
        v_from := v_to;
        v_given_from := v_given_to;
    END LOOP;

    UPDATE gate.budget_periods p SET reserved = p.reserved + d.delta
    FROM unnest(v_period, v_delta) d (period_id, delta)
    WHERE p.period_id = d.period_id AND d.delta <> 0;
    RETURN v_wrong;
END $$;

-- One durable flush for many decisions: the only way into the log. Called in autocommit at READ COMMITTED, so that no
-- client can hold its locks.
--
-- The rows come as one JSON object with an array for each column (one row for each application and person, which the
-- caller sees to), which json_to_record makes typed arrays of, and their byte columns as one value: row by row
-- fingerprint and content digest (32 bytes each), input, record, response; `bytes_at` says how many bytes lie before a
-- row. `facts` is what a row was settled with (see gate.facts_document; null: with nothing, then nothing is compared),
-- `budget_available` what it expects of its budgets, which p_budget_* name, each line by its row's position. What is
-- not simply written comes back, with its position from 1 and its status:
--   replayed    the same request was decided before: `response` holds the stored bytes,
--   conflict    another request holds the key,
--   superseded  a newer revision of the application has been decided,
--   unsettled   the facts are others: `response` holds them as JSON; settle it with these,
--   stale       it was decided under a policy that is not active, or a channel or budget that has changed.
-- Every other row is stored and was stored by this call, with its reservation where it is an accept; the function
-- raises where that does not add up.
CREATE FUNCTION gate.journal_flush(
    p_rows json, p_bytes bytea, p_budget_row integer[], p_budget_id bigint[], p_budget_units bigint[]
) RETURNS TABLE (row_number integer, status text, response bytea)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    v_rows record;
    v_active integer;
    v_budget_revision bigint;
    v_since timestamptz;
    v_until timestamptz;
    v_facts text[];
    v_won uuid[];
    v_given_row integer[];
    v_given uuid[];
    v_wrong integer[] := '{}';
    v_other integer;
BEGIN
    SELECT * INTO STRICT v_rows FROM json_to_record(p_rows) AS r (
        originator_id integer[], application_id text[], revision smallint[], decision_id uuid[],
        decided_at timestamptz[], retention_class text[], policy_version integer[], engine text[],
        channel_id integer[], channel_revision bigint[], channel_code text[], sub_id text[], product text[],
        jurisdiction text[], tier text[], outcome text[], next_action text[], amount bigint[], currency text[],
        term_months smallint[], ceiling_amount bigint[], offered_amount bigint[], reason_codes text[],
        applicant_ref text[], facts text[], budget_revision bigint[], budget_available boolean[], bytes_at integer[],
        input_bytes integer[], record_bytes integer[], response_bytes integer[]);
    PERFORM gate.fence_shared();
    SELECT policy_version, budget_revision INTO v_active, v_budget_revision FROM gate.state;

    -- One flush at a time for each application and each person. A collision of hashes makes one wait, no more.
    PERFORM pg_advisory_xact_lock(484031197, s.subject)
    FROM (SELECT DISTINCT hashtext(n.name) AS subject
          FROM unnest(v_rows.originator_id, v_rows.application_id, v_rows.applicant_ref)
               AS a (originator_id, application_id, applicant_ref),
               LATERAL (VALUES ('a' || a.originator_id || ' ' || a.application_id), ('p' || a.applicant_ref)) n (name)
          WHERE n.name IS NOT NULL ORDER BY 1) s;

    -- A statement of its own from here on: it sees what those have committed that were waited for.
    SELECT min(d) - interval '30 days', max(d) + interval '1 day' INTO v_since, v_until FROM unnest(v_rows.decided_at) d;
    SELECT array_agg(
        CASE WHEN a.applicant_ref IS NULL THEN '- - - - '
             WHEN EXISTS (SELECT FROM gate.decisions d WHERE d.applicant_ref = a.applicant_ref
                            AND d.decided_at > v_since AND d.decided_at < v_until)
             THEN gate.person_facts(a.applicant_ref, a.product, a.channel_id, a.originator_id, a.application_id,
                                    a.decided_at) || ' '
             ELSE '0 0 1 1 ' END
        || CASE WHEN a.revision = 1 THEN 0
                ELSE gate.application_changes(a.originator_id, a.application_id, a.revision, a.amount,
                                              substring(p_bytes, a.bytes_at + 65, a.input_bytes)) END
        ORDER BY a.n)
    INTO v_facts
    FROM unnest(v_rows.applicant_ref, v_rows.product, v_rows.channel_id, v_rows.originator_id, v_rows.application_id,
                v_rows.decided_at, v_rows.revision, v_rows.amount, v_rows.bytes_at, v_rows.input_bytes)
         WITH ORDINALITY AS a (applicant_ref, product, channel_id, originator_id, application_id, decided_at, revision,
                               amount, bytes_at, input_bytes, n);

    WITH won AS (
        INSERT INTO gate.decision_keys (originator_id, application_id, revision, retention_class, decided_at,
                                        decision_id, fingerprint)
        SELECT a.originator_id, a.application_id, a.revision, a.retention_class, a.decided_at, a.decision_id,
               substring(p_bytes, a.bytes_at + 1, 32)
        FROM unnest(v_rows.originator_id, v_rows.application_id, v_rows.revision, v_rows.retention_class,
                    v_rows.decided_at, v_rows.decision_id, v_rows.policy_version, v_rows.channel_id,
                    v_rows.channel_revision, v_rows.budget_revision, v_rows.facts, v_facts, v_rows.bytes_at)
             AS a (originator_id, application_id, revision, retention_class, decided_at, decision_id, policy_version,
                   channel_id, channel_revision, budget_revision, expected, facts, bytes_at)
        JOIN gate.channels c ON c.channel_id = a.channel_id AND c.revision = a.channel_revision
        WHERE a.policy_version = v_active AND coalesce(a.budget_revision = v_budget_revision, true)
          AND coalesce(a.expected = a.facts, true)
          AND NOT EXISTS (SELECT FROM gate.decision_keys k
                          WHERE k.originator_id = a.originator_id AND k.application_id = a.application_id
                            AND k.revision > a.revision)
        ORDER BY a.originator_id, a.application_id COLLATE "C", a.revision
        ON CONFLICT DO NOTHING
        RETURNING decision_id)
    SELECT coalesce(array_agg(decision_id), '{}') INTO v_won FROM won;

    IF cardinality(v_won) > 0 THEN
        INSERT INTO gate.decisions (
            decision_id, decided_at, retention_class, originator_id, application_id, revision, channel_id, channel_code,
            sub_id, product, jurisdiction, tier, policy_version, engine, outcome, next_action, amount, currency,
            term_months, ceiling_amount, offered_amount, reason_codes, applicant_ref, fingerprint, content_digest,
            input, record, response)
        SELECT a.decision_id, a.decided_at, a.retention_class, a.originator_id, a.application_id, a.revision,
               a.channel_id, a.channel_code, a.sub_id, a.product, a.jurisdiction, a.tier, a.policy_version, a.engine,
               a.outcome, a.next_action, a.amount, a.currency, a.term_months, a.ceiling_amount, a.offered_amount,
               string_to_array(a.reason_codes, ','), a.applicant_ref,
               substring(p_bytes, a.bytes_at + 1, 32),
               substring(p_bytes, a.bytes_at + 33, 32),
               substring(p_bytes, a.bytes_at + 65, a.input_bytes),
               substring(p_bytes, a.bytes_at + 65 + a.input_bytes, a.record_bytes),
               substring(p_bytes, a.bytes_at + 65 + a.input_bytes + a.record_bytes, a.response_bytes)
        FROM unnest(v_rows.decision_id, v_rows.decided_at, v_rows.retention_class, v_rows.originator_id,
                    v_rows.application_id, v_rows.revision, v_rows.channel_id, v_rows.channel_code, v_rows.sub_id,
                    v_rows.product, v_rows.jurisdiction, v_rows.tier, v_rows.policy_version, v_rows.engine,
                    v_rows.outcome, v_rows.next_action, v_rows.amount, v_rows.currency, v_rows.term_months,
                    v_rows.ceiling_amount, v_rows.offered_amount, v_rows.reason_codes, v_rows.applicant_ref,
                    v_rows.bytes_at, v_rows.input_bytes, v_rows.record_bytes, v_rows.response_bytes)
             AS a (decision_id, decided_at, retention_class, originator_id, application_id, revision, channel_id,
                   channel_code, sub_id, product, jurisdiction, tier, policy_version, engine, outcome, next_action,
                   amount, currency, term_months, ceiling_amount, offered_amount, reason_codes, applicant_ref,
                   bytes_at, input_bytes, record_bytes, response_bytes)
        WHERE a.decision_id = ANY (v_won);

        INSERT INTO gate.reservations (decision_id, channel_id, amount, currency, reserved_at, expires_at)
        SELECT a.decision_id, a.channel_id, a.amount, a.currency, a.decided_at,
               a.decided_at + make_interval(hours => t.hours)
        FROM unnest(v_rows.decision_id, v_rows.channel_id, v_rows.amount, v_rows.currency, v_rows.decided_at,
                    v_rows.retention_class, v_rows.outcome)
             AS a (decision_id, channel_id, amount, currency, decided_at, retention_class, outcome)
        JOIN gate.channels c ON c.channel_id = a.channel_id
        JOIN gate.reservation_terms t ON t.channel_kind = c.kind AND t.retention_class = a.retention_class
        WHERE a.outcome = 'accept' AND a.decision_id = ANY (v_won);

        IF 1 < ANY (v_rows.revision) THEN
            -- A new revision takes the place of the one before, whatever it comes to.
            SELECT array_agg(r.n), array_agg(r.decision_id) INTO v_given_row, v_given
            FROM (SELECT a.n, r.decision_id
                  FROM unnest(v_rows.originator_id, v_rows.application_id, v_rows.revision, v_rows.decision_id)
                       WITH ORDINALITY AS a (originator_id, application_id, revision, decision_id, n)
                  JOIN gate.decision_keys k ON k.originator_id = a.originator_id AND k.application_id = a.application_id
                                           AND k.revision < a.revision
                  JOIN gate.reservations r ON r.decision_id = k.decision_id AND r.state = 'reserved'
                  WHERE a.revision > 1 AND a.decision_id = ANY (v_won)
                  ORDER BY r.decision_id FOR UPDATE OF r) r;
        END IF;
        IF cardinality(p_budget_row) > 0 OR v_given IS NOT NULL THEN
            v_wrong := gate.flush_budgets(v_rows.decision_id, v_rows.decided_at, v_rows.budget_available, v_won,
                                          p_budget_row, p_budget_id, p_budget_units, v_given_row, v_given);
            UPDATE gate.reservations r SET state = 'voided', resolved_at = clock_timestamp(), cause = 'superseded'
            FROM unnest(v_given_row, v_given) g (n, decision_id)
            WHERE r.decision_id = g.decision_id AND g.n <> ALL (v_wrong);
            IF cardinality(v_wrong) > 0 THEN
                DELETE FROM gate.decisions d USING unnest(v_wrong) w
                WHERE d.decision_id = v_rows.decision_id[w] AND d.decided_at = v_rows.decided_at[w]
                  AND d.retention_class = v_rows.retention_class[w];
                DELETE FROM gate.decision_keys k USING unnest(v_wrong) w
                WHERE k.originator_id = v_rows.originator_id[w] AND k.application_id = v_rows.application_id[w]
                  AND k.revision = v_rows.revision[w];
                DELETE FROM gate.reservations r USING unnest(v_wrong) w WHERE r.decision_id = v_rows.decision_id[w];
                DELETE FROM gate.reservation_units u USING unnest(v_wrong) w
                WHERE u.decision_id = v_rows.decision_id[w];
            END IF;
        END IF;
    ELSE
        -- An answer from the log must be as durable as the first one was, also on a standby.
        PERFORM pg_logical_emit_message(true, 'gate', '');
    END IF;

    -- A statement of its own: it sees the rows of a winner that the insert had to wait for.
    RETURN QUERY
    SELECT r.n, r.status,
           CASE r.status
               WHEN 'replayed' THEN (SELECT d.response FROM gate.decisions d
                                     WHERE d.decision_id = r.decision_id AND d.decided_at = r.decided_at
                                       AND d.retention_class = r.retention_class)
               WHEN 'unsettled' THEN gate.facts_document(r.facts, CASE WHEN r.n = ANY (v_wrong) THEN NOT r.available END)
               END
    FROM (
        SELECT a.n::integer, k.decision_id, k.decided_at, k.retention_class, a.facts, a.available,
               CASE WHEN k.fingerprint = substring(p_bytes, a.bytes_at + 1, 32) THEN 'replayed'
                    WHEN k.decision_id IS NOT NULL THEN 'conflict'
                    WHEN EXISTS (SELECT FROM gate.decision_keys n
                                 WHERE n.originator_id = a.originator_id AND n.application_id = a.application_id
                                   AND n.revision > a.revision) THEN 'superseded'
                    WHEN a.n = ANY (v_wrong) OR a.expected <> a.facts THEN 'unsettled'
                    ELSE 'stale' END AS status
        FROM unnest(v_rows.originator_id, v_rows.application_id, v_rows.revision, v_rows.decision_id, v_rows.bytes_at,
                    v_rows.facts, v_facts, v_rows.budget_available)
             WITH ORDINALITY AS a (originator_id, application_id, revision, decision_id, bytes_at, expected, facts,
                                   available, n)
        LEFT JOIN gate.decision_keys k
          ON k.originator_id = a.originator_id AND k.application_id = a.application_id AND k.revision = a.revision
        WHERE k.decision_id IS DISTINCT FROM a.decision_id
    ) r;
    GET DIAGNOSTICS v_other = ROW_COUNT;
    IF cardinality(v_won) - cardinality(v_wrong) + v_other <> cardinality(v_rows.decision_id) THEN
        RAISE EXCEPTION 'the flush did not account for every row' USING ERRCODE = 'XX000';
    END IF;
END $$;
