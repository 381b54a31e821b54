-- The fold. It looks at a set of facts, so their order says nothing. app/outcomes/state.py says the same in Python, and
-- a test holds the two together.
CREATE FUNCTION gate.outcomes_fold(p_subjects bigint[])
RETURNS TABLE (
    subject_id bigint, status text, funded_on date, funded_amount bigint, outstanding bigint, first_due_on date,
    first_paid_on date, performance_on date, days_past_due integer, worst_days_past_due integer, closed_on date,
    flags text[]
) LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = 'force_custom_plan' AS $$
    WITH counting AS (
        -- The version that counts of each fact, and whether another one under the same number says otherwise.
        SELECT DISTINCT ON (e.subject_id, e.kind, e.discriminator)
               e.*, coalesce(lead(e.correction) OVER version = e.correction, false) AS disputed
        FROM gate.outcome_events e
        WHERE e.subject_id = ANY (p_subjects)
        WINDOW version AS (PARTITION BY e.subject_id, e.kind, e.discriminator ORDER BY e.correction DESC, e.digest DESC)
        ORDER BY e.subject_id, e.kind, e.discriminator, e.correction DESC, e.digest DESC
    ), funding AS (
        SELECT c.subject_id, min(c.occurred_on) AS funded_on, sum(c.amount)::bigint AS funded_amount, count(*) AS fundings
        FROM counting c WHERE c.kind = 'funded' AND NOT c.retracted GROUP BY c.subject_id
    ), dated AS (
        -- Performance at a month on book is of that month's last day.
        SELECT c.*, f.funded_on, f.funded_amount, coalesce(f.fundings, 0) AS fundings,
               coalesce(c.occurred_on, (date_trunc('month', coalesce(f.funded_on, date '1970-01-01')::timestamp)
                                        + make_interval(months => c.month_on_book + 1))::date - 1) AS day
        FROM counting c LEFT JOIN funding f ON f.subject_id = c.subject_id
    ), told AS (
        SELECT d.subject_id,
               max(d.funded_on) AS funded_on, max(d.funded_amount) AS funded_amount,
               max(d.fundings) AS fundings,
               min(ARRAY[to_char(d.day, 'YYYY-MM-DD'), d.kind]) FILTER (
                   WHERE d.kind IN ('withdrawn', 'cancelled', 'expired', 'declined_downstream')) AS ending,
               bool_or(d.kind IN ('withdrawn', 'expired', 'declined_downstream')
                       OR d.kind = 'cancelled' AND d.day < d.funded_on) AS ended_early,
               max(d.day) FILTER (WHERE d.kind = 'cancelled') AS cancelled_on,
               max(d.day) FILTER (WHERE d.kind = 'paid_off') AS paid_off_on,
               max(d.day) FILTER (WHERE d.kind = 'charged_off') AS charged_off_on,
               max(d.day) FILTER (WHERE d.kind = 'performance' AND d.days_past_due > 0) AS late_on,
               max(ARRAY[d.day - date '1970-01-01', d.days_past_due]) FILTER (WHERE d.kind = 'performance') AS latest,
               max(d.days_past_due) FILTER (WHERE d.kind = 'performance') AS worst,
               max(ARRAY[(d.day - date '1970-01-01')::bigint, -d.balance]) FILTER (WHERE d.balance IS NOT NULL) AS owed,
               min(d.day) FILTER (WHERE d.kind = 'instalment_due') AS first_due_on,
               min(d.day) FILTER (WHERE d.kind = 'instalment_paid' AND d.instalment = 1) AS first_paid_on,
               bool_or(d.kind IN ('instalment_due', 'instalment_paid', 'performance', 'restructured',
                                  'technical_arrears', 'paid_off', 'charged_off', 'recovered')) AS lent,
               array_agg(DISTINCT d.currency) FILTER (WHERE d.currency IS NOT NULL) AS currencies
        FROM dated d WHERE NOT d.retracted GROUP BY d.subject_id
    ), stated AS (
        SELECT t.*, o.subject_id AS id, k.outcome, k.accepted_amount, o.currency,
               CASE
                   WHEN t.fundings > 0 OR t.lent THEN CASE
                       WHEN t.cancelled_on >= t.funded_on THEN 'cancelled'
                       WHEN t.charged_off_on >= coalesce(t.paid_off_on, '-infinity') THEN 'charged_off'
                       WHEN t.paid_off_on IS NOT NULL THEN 'paid_off'
                       WHEN t.latest[2] > 0 THEN 'past_due'
                       ELSE 'funded' END
                   WHEN t.ending IS NOT NULL AND k.outcome IS DISTINCT FROM 'reject' THEN t.ending[2]
                   ELSE CASE k.outcome WHEN 'accept' THEN 'accepted' WHEN 'escalate' THEN 'escalated'
                                       WHEN 'reject' THEN 'rejected' ELSE 'waiting' END
               END AS status,
               r.state = 'expired' OR r.state = 'voided' AND r.cause <> 'outcome' AS released,
               EXISTS (SELECT FROM counting c WHERE c.subject_id = o.subject_id AND c.disputed) AS disputed
        FROM gate.application_outcomes o
        LEFT JOIN told t ON t.subject_id = o.subject_id
        LEFT JOIN gate.reservations r ON r.decision_id = o.decision_id
        -- What was escalated and has a reservation has been accepted since.
        CROSS JOIN LATERAL (SELECT CASE WHEN r.decision_id IS NULL THEN o.outcome ELSE 'accept' END AS outcome,
                                   coalesce(r.amount, o.accepted_amount) AS accepted_amount) k
        WHERE o.subject_id = ANY (p_subjects)
    )
    SELECT s.id, s.status, s.funded_on, s.funded_amount,
           CASE WHEN s.funded_on IS NULL OR s.status IN ('cancelled', 'paid_off', 'charged_off') THEN 0
                ELSE coalesce(-s.owed[2], s.funded_amount) END,
           s.first_due_on, s.first_paid_on, date '1970-01-01' + s.latest[1], s.latest[2], s.worst,
           CASE s.status WHEN 'cancelled' THEN s.cancelled_on WHEN 'paid_off' THEN s.paid_off_on
                         WHEN 'charged_off' THEN s.charged_off_on
                         WHEN s.ending[2] THEN s.ending[1]::date END,
           array_remove(ARRAY[
               CASE WHEN s.charged_off_on > s.paid_off_on THEN 'charged_off_after_payoff' END,
               CASE WHEN EXISTS (SELECT FROM unnest(s.currencies) c WHERE c <> s.currency) THEN 'currency_differs' END,
               CASE WHEN s.fundings > 0 AND s.ended_early THEN 'ended_and_funded' END,
               CASE WHEN s.outcome = 'accept' AND s.funded_amount > s.accepted_amount THEN 'funded_above_reservation' END,
               CASE WHEN s.fundings > 0 AND s.released THEN 'funded_after_release' END,
               CASE WHEN s.fundings > 1 THEN 'funded_twice' END,
               CASE WHEN s.fundings > 0 AND s.outcome <> 'accept' THEN 'funded_without_accept' END,
               CASE WHEN s.fundings = 0 AND s.lent THEN 'loan_without_funding' END,
               CASE WHEN s.late_on > s.paid_off_on THEN 'past_due_after_payoff' END,
               CASE WHEN s.disputed THEN 'reported_differently' END], NULL)
    FROM stated s
$$;

-- The score and its band in a stored request; null where it says none or cannot be read.
CREATE FUNCTION gate.input_segment(p_input bytea, OUT score integer, OUT score_band text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_bureau jsonb := convert_from(p_input, 'UTF8')::jsonb -> 'bureau';
BEGIN
    score := (v_bureau ->> 'score')::numeric::integer;
    score_band := v_bureau ->> 'score_band';
EXCEPTION WHEN data_exception THEN
    score := NULL;
END $$;

-- What facts add to the posted units of a period, or take from them, beside what the tables of budgets say by themselves:
-- the other amount of a funding that was corrected, a funding that was retracted. posted of a period = units of posted
-- reservations (of what is owed, where it is outstanding) + units of unreserved fundings (the same) + these.
CREATE TABLE gate.reservation_adjustments (
    decision_id uuid NOT NULL,
    period_id bigint NOT NULL,
    units bigint NOT NULL,
    PRIMARY KEY (decision_id, period_id)
);

-- Brings reservations and budgets to where the facts are: p_funded is the amount funded (null: none), p_outstanding what
-- of it is still owed, p_ended that there will be no loan. The set-wise form of gate.reservation_fund,
-- gate.reservation_void and gate.loan_balance_put. It is told the target and books the difference, so it may be called
-- again, and whatever fact comes first, the end is the same. Flow units stay in the period of the accept and no repayment
-- gives them back; outstanding ones follow what is owed. Locks: reservations, then periods, each by id.
CREATE FUNCTION gate.reservations_settle(
    p_decision_id uuid[], p_ended boolean[], p_funded bigint[], p_outstanding bigint[]
) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = 'force_custom_plan' AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_late uuid[];
    v_decision uuid[];
    v_period bigint[];
    v_reserved bigint[];
    v_posted bigint[];
    v_adjusted bigint[];
BEGIN
    PERFORM FROM gate.reservations r WHERE r.decision_id = ANY (p_decision_id) ORDER BY r.decision_id FOR UPDATE;
    WITH beyond AS (
        -- Above what was reserved, or without anything that was.
        SELECT w.decision_id, CASE WHEN r.state = 'reserved' THEN 'above' ELSE 'unreserved' END AS kind,
               coalesce(r.channel_id, o.channel_id) AS channel_id, coalesce(r.currency, o.currency) AS currency,
               w.funded - CASE WHEN r.state = 'reserved' THEN r.amount ELSE 0 END AS amount
        FROM unnest(p_decision_id, p_funded) w (decision_id, funded)
        JOIN gate.application_outcomes o ON o.decision_id = w.decision_id
        LEFT JOIN gate.reservations r ON r.decision_id = w.decision_id
        WHERE w.funded > 0 AND r.state IS DISTINCT FROM 'posted'
    ), put AS (
        INSERT INTO gate.overruns (decision_id, kind, channel_id, amount, currency, at)
        SELECT b.decision_id, b.kind, b.channel_id, b.amount, b.currency, v_now FROM beyond b
        WHERE b.amount > 0 ORDER BY b.decision_id
        ON CONFLICT DO NOTHING RETURNING decision_id, kind
    )
    SELECT array_agg(p.decision_id) FILTER (WHERE p.kind = 'unreserved') INTO v_late FROM put p;
    IF v_late IS NOT NULL THEN
        INSERT INTO gate.overrun_units (decision_id, period_id, units)
        SELECT u.decision_id, u.period_id, gate.posted_units(b.measure, u.units, r.amount, n.amount)
        FROM gate.overruns n
        JOIN gate.reservations r ON r.decision_id = n.decision_id
        JOIN gate.reservation_units u ON u.decision_id = n.decision_id
        JOIN gate.budget_periods p ON p.period_id = u.period_id
        JOIN gate.budgets b ON b.budget_id = p.budget_id
        WHERE n.decision_id = ANY (v_late);
        INSERT INTO gate.overrun_units (decision_id, period_id, units)
        SELECT n.decision_id, gate.budget_period_at(b.budget_id, v_now),
               gate.budget_units(b.measure, b.loss_rate_ppm, n.amount, o.tier)
        FROM gate.overruns n
        JOIN gate.application_outcomes o ON o.decision_id = n.decision_id
        JOIN gate.budgets b ON b.ended_at IS NULL AND gate.budget_period_at(b.budget_id, v_now) IS NOT NULL
                           AND gate.budget_covers(b, o.channel_id, o.tier, o.product, o.jurisdiction, o.currency)
        WHERE n.decision_id = ANY (v_late)
          AND NOT EXISTS (SELECT FROM gate.reservations r WHERE r.decision_id = n.decision_id);
    END IF;
    WITH wanted AS (
        SELECT w.*, r.state, l.balance AS owed_before, n.amount AS late_amount,
               r.state = 'reserved' AND (w.ended OR w.funded IS NOT NULL) AS ends,
               CASE WHEN r.state = 'posted' THEN r.posted_amount END AS posted_before,
               CASE r.state WHEN 'posted' THEN r.posted_amount WHEN 'reserved' THEN w.funded END AS posted_after,
               r.amount AS reserved_amount
        FROM unnest(p_decision_id, p_ended, p_funded, p_outstanding) w (decision_id, ended, funded, outstanding)
        LEFT JOIN gate.reservations r ON r.decision_id = w.decision_id
        LEFT JOIN gate.loan_balances l ON l.decision_id = w.decision_id
        LEFT JOIN gate.overruns n ON n.decision_id = w.decision_id AND n.kind = 'unreserved'
    ), lines AS (
        SELECT w.decision_id, u.period_id, u.units, w.reserved_amount AS base, w.ends, w.funded, w.outstanding,
               w.posted_before AS before, w.posted_after AS after, w.owed_before
        FROM wanted w JOIN gate.reservation_units u ON u.decision_id = w.decision_id
        WHERE w.state IN ('reserved', 'posted') AND w.late_amount IS NULL
        UNION ALL
        SELECT w.decision_id, u.period_id, u.units, w.late_amount, false, w.funded, w.outstanding,
               CASE WHEN w.decision_id = ANY (coalesce(v_late, '{}')) THEN NULL ELSE w.late_amount END, w.late_amount,
               w.owed_before
        FROM wanted w JOIN gate.overrun_units u ON u.decision_id = w.decision_id
        WHERE w.late_amount IS NOT NULL
    ), priced AS (
        SELECT i.decision_id, i.period_id, CASE WHEN i.ends THEN -i.units ELSE 0 END AS reserved,
               coalesce(gate.posted_units(b.measure, i.units, i.base,
                   CASE WHEN stock AND i.before > i.owed_before THEN i.owed_before ELSE i.before END), 0)
                   + coalesce(a.units, 0) AS before,
               coalesce(gate.posted_units(b.measure, i.units, i.base,
                   CASE WHEN stock THEN least(i.after, i.outstanding) ELSE i.after END), 0) AS told,
               coalesce(gate.posted_units(b.measure, i.units, i.base,
                   CASE WHEN stock THEN least(i.funded, i.outstanding) ELSE i.funded END), 0) AS target,
               coalesce(a.units, 0) AS adjusted
        FROM lines i
        JOIN gate.budget_periods p ON p.period_id = i.period_id
        JOIN gate.budgets b ON b.budget_id = p.budget_id
        CROSS JOIN LATERAL (SELECT b.period = 'outstanding' AS stock) s
        LEFT JOIN gate.reservation_adjustments a ON a.decision_id = i.decision_id AND a.period_id = i.period_id
    )
    SELECT array_agg(p.decision_id), array_agg(p.period_id), array_agg(p.reserved), array_agg(p.target - p.before),
           array_agg(p.target - p.told)
    INTO v_decision, v_period, v_reserved, v_posted, v_adjusted
    FROM priced p
    WHERE p.reserved <> 0 OR p.target <> p.before OR p.target - p.told <> p.adjusted;
    UPDATE gate.reservations r
    SET state = CASE WHEN w.funded IS NULL THEN 'voided' ELSE 'posted' END, resolved_at = v_now,
        cause = CASE WHEN w.funded IS NULL THEN 'outcome' ELSE 'funded' END, posted_amount = w.funded
    FROM unnest(p_decision_id, p_ended, p_funded) w (decision_id, ended, funded)
    WHERE r.decision_id = w.decision_id AND r.state = 'reserved' AND (w.ended OR w.funded IS NOT NULL)
      AND NOT EXISTS (SELECT FROM gate.overruns n WHERE n.decision_id = w.decision_id AND n.kind = 'unreserved');
    INSERT INTO gate.loan_balances AS l (decision_id, balance, at)
    SELECT w.decision_id, w.outstanding, v_now
    FROM unnest(p_decision_id, p_outstanding) w (decision_id, outstanding)
    LEFT JOIN gate.reservations r ON r.decision_id = w.decision_id
    LEFT JOIN gate.overruns n ON n.decision_id = w.decision_id AND n.kind = 'unreserved'
    WHERE w.outstanding < greatest(r.posted_amount, n.amount)
       OR EXISTS (SELECT FROM gate.loan_balances b WHERE b.decision_id = w.decision_id)
    ORDER BY w.decision_id
    ON CONFLICT (decision_id) DO UPDATE SET balance = excluded.balance, at = excluded.at
    WHERE l.balance <> excluded.balance;
    IF v_decision IS NULL THEN
        RETURN;
    END IF;
    INSERT INTO gate.reservation_adjustments AS a (decision_id, period_id, units)
    SELECT * FROM unnest(v_decision, v_period, v_adjusted) n (decision_id, period_id, units)
    WHERE n.units <> 0 OR EXISTS (SELECT FROM gate.reservation_adjustments k
                                  WHERE k.decision_id = n.decision_id AND k.period_id = n.period_id)
    ON CONFLICT (decision_id, period_id) DO UPDATE SET units = excluded.units WHERE a.units <> excluded.units;
    PERFORM gate.budget_periods_move(v_period, v_reserved, v_posted);
END $$;

-- The decision on the latest revision of an application, as far as its outcomes need it. No row where there is none.
CREATE FUNCTION gate.outcome_binding(p_originator_id integer, p_application_id text)
RETURNS TABLE (
    decision_id uuid, revision smallint, decided_at timestamptz, retention_class text, outcome text, channel_id integer,
    product text, jurisdiction text, tier text, amount bigint, currency text, term_months smallint, score integer,
    score_band text
) LANGUAGE sql STABLE AS $$
    SELECT d.decision_id, d.revision, d.decided_at, d.retention_class, d.outcome, d.channel_id, d.product,
           d.jurisdiction, d.tier, d.amount, d.currency, d.term_months, s.score, s.score_band
    FROM (SELECT k.* FROM gate.decision_keys k
          WHERE k.originator_id = p_originator_id AND k.application_id = p_application_id
          ORDER BY k.revision DESC LIMIT 1) k
    JOIN gate.decisions d ON d.decision_id = k.decision_id AND d.decided_at = k.decided_at
                         AND d.retention_class = k.retention_class
    CROSS JOIN LATERAL gate.input_segment(d.input) s
$$;

-- Let planners put it in place: it names nothing that a search path could change.
ALTER FUNCTION gate.posted_units(text, bigint, bigint, bigint) RESET ALL;

-- Binds applications, which the caller has locked, to their decisions, and makes their fold anew.
CREATE FUNCTION gate.outcomes_refold(p_subjects bigint[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = 'force_custom_plan' AS $$
DECLARE
    v_decision uuid[];
    v_ended boolean[];
    v_funded bigint[];
    v_outstanding bigint[];
BEGIN
    UPDATE gate.application_outcomes o
    SET decision_id = d.decision_id, revision = d.revision, decided_at = d.decided_at,
        retention_class = d.retention_class, outcome = d.outcome, channel_id = d.channel_id, product = d.product,
        jurisdiction = d.jurisdiction, tier = d.tier, accepted_amount = d.amount, currency = d.currency,
        term_months = d.term_months, score = d.score, score_band = d.score_band
    FROM gate.application_outcomes a
    CROSS JOIN LATERAL (SELECT k.decision_id FROM gate.decision_keys k
                        WHERE k.originator_id = a.originator_id AND k.application_id = a.application_id
                        ORDER BY k.revision DESC LIMIT 1) k
    CROSS JOIN LATERAL gate.outcome_binding(a.originator_id, a.application_id) d
    WHERE a.subject_id = ANY (p_subjects) AND a.decision_id IS DISTINCT FROM k.decision_id
      AND o.subject_id = a.subject_id;
    UPDATE gate.application_outcomes o
    SET status = f.status, funded_on = f.funded_on, funded_amount = f.funded_amount, outstanding = f.outstanding,
        first_due_on = f.first_due_on, first_paid_on = f.first_paid_on, performance_on = f.performance_on,
        days_past_due = f.days_past_due, worst_days_past_due = f.worst_days_past_due, closed_on = f.closed_on,
        flags = f.flags, folded_at = clock_timestamp()
    FROM gate.outcomes_fold(p_subjects) f WHERE o.subject_id = f.subject_id;
    SELECT array_agg(o.decision_id), array_agg(o.status IN ('withdrawn', 'cancelled', 'expired', 'declined_downstream')),
           array_agg(o.funded_amount), array_agg(o.outstanding)
    INTO v_decision, v_ended, v_funded, v_outstanding
    FROM gate.application_outcomes o WHERE o.subject_id = ANY (p_subjects) AND o.decision_id IS NOT NULL;
    IF v_decision IS NOT NULL THEN
        PERFORM gate.reservations_settle(v_decision, v_ended, v_funded, v_outstanding);
    END IF;
END $$;
