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
        SELECT t.*, o.subject_id AS id, o.outcome, o.accepted_amount, o.currency, r.state AS reservation,
               CASE
                   WHEN t.fundings > 0 OR t.lent THEN CASE
                       WHEN t.cancelled_on >= t.funded_on THEN 'cancelled'
                       WHEN t.charged_off_on >= coalesce(t.paid_off_on, '-infinity') THEN 'charged_off'
                       WHEN t.paid_off_on IS NOT NULL THEN 'paid_off'
                       WHEN t.latest[2] > 0 THEN 'past_due'
                       ELSE 'funded' END
                   WHEN t.ending IS NOT NULL AND o.outcome IS DISTINCT FROM 'reject' THEN t.ending[2]
                   ELSE CASE o.outcome WHEN 'accept' THEN 'accepted' WHEN 'escalate' THEN 'escalated'
                                       WHEN 'reject' THEN 'rejected' ELSE 'waiting' END
               END AS status,
               r.state = 'expired' OR r.state = 'voided' AND r.cause <> 'outcome' AS released,
               EXISTS (SELECT FROM counting c WHERE c.subject_id = o.subject_id AND c.disputed) AS disputed
        FROM gate.application_outcomes o
        LEFT JOIN told t ON t.subject_id = o.subject_id
        LEFT JOIN gate.reservations r ON r.decision_id = o.decision_id
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

-- Units of a budget that an amount takes, where the whole reservation would take `p_units`.
CREATE FUNCTION gate.units_of(p_measure text, p_units bigint, p_reserved bigint, p_amount bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN coalesce(p_amount, 0) = 0 THEN 0
                WHEN p_measure = 'count' THEN p_units
                WHEN p_measure = 'amount' THEN p_amount
                ELSE ceil(p_units::numeric * p_amount / p_reserved)::bigint END
$$;

-- What facts add to the posted units of a period, or take from them, beside what the reservation itself posted when it
-- was resolved: a loan that was funded after its reservation had ended, another amount by a correction, a repayment.
-- posted of a period = units of its posted reservations + these.
CREATE TABLE gate.reservation_adjustments (
    decision_id uuid NOT NULL,
    period_id bigint NOT NULL,
    units bigint NOT NULL,
    PRIMARY KEY (decision_id, period_id)
);

-- Brings reservations and budgets to where the facts are: p_funded is the amount funded (null: none), p_outstanding what
-- of it is still owed, p_ended that there will be no loan. It is told the target and books the difference, so it may be
-- called again, and a later fact finds the same end whatever came first. Flow units stay in the period of the accept and
-- never go back by a repayment; outstanding ones follow the balance. Locks: reservations, then periods, each by id.
CREATE FUNCTION gate.reservations_settle(
    p_decision_id uuid[], p_ended boolean[], p_funded bigint[], p_outstanding bigint[]
) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = 'force_custom_plan' AS $$
DECLARE
    v_decision uuid[];
    v_period bigint[];
    v_reserved bigint[];
    v_posted bigint[];
    v_adjusted bigint[];
BEGIN
    PERFORM FROM gate.reservations r WHERE r.decision_id = ANY (p_decision_id) ORDER BY r.decision_id FOR UPDATE;
    SELECT array_agg(m.decision_id), array_agg(m.period_id), array_agg(m.reserved), array_agg(m.target - m.posted),
           array_agg(m.target - m.own_after)
    INTO v_decision, v_period, v_reserved, v_posted, v_adjusted
    FROM (
        SELECT r.decision_id, u.period_id,
               CASE WHEN r.state = 'reserved' AND (w.ended OR w.funded IS NOT NULL) THEN -u.units ELSE 0 END AS reserved,
               gate.units_of(b.measure, u.units, r.amount,
                             CASE b.period WHEN 'outstanding' THEN w.outstanding ELSE w.funded END) AS target,
               CASE WHEN r.state = 'posted' THEN gate.units_of(b.measure, u.units, r.amount, r.posted_amount)
                    WHEN r.state = 'reserved' AND w.funded IS NOT NULL
                        THEN gate.units_of(b.measure, u.units, r.amount, w.funded)
                    ELSE 0 END AS own_after,
               CASE WHEN r.state = 'posted' THEN gate.units_of(b.measure, u.units, r.amount, r.posted_amount)
                    ELSE 0 END + coalesce(a.units, 0) AS posted
        FROM unnest(p_decision_id, p_ended, p_funded, p_outstanding) w (decision_id, ended, funded, outstanding)
        JOIN gate.reservations r ON r.decision_id = w.decision_id
        JOIN gate.reservation_units u ON u.decision_id = r.decision_id
        JOIN gate.budget_periods p ON p.period_id = u.period_id
        JOIN gate.budgets b ON b.budget_id = p.budget_id
        LEFT JOIN gate.reservation_adjustments a ON a.decision_id = u.decision_id AND a.period_id = u.period_id
    ) m WHERE m.reserved <> 0 OR m.target <> m.posted OR m.target <> m.own_after;
    UPDATE gate.reservations r
    SET state = CASE WHEN w.funded IS NULL THEN 'voided' ELSE 'posted' END, resolved_at = clock_timestamp(),
        cause = CASE WHEN w.funded IS NULL THEN 'outcome' ELSE 'funded' END, posted_amount = w.funded
    FROM unnest(p_decision_id, p_ended, p_funded) w (decision_id, ended, funded)
    WHERE r.decision_id = w.decision_id AND r.state = 'reserved' AND (w.ended OR w.funded IS NOT NULL);
    IF v_decision IS NULL THEN
        RETURN;
    END IF;
    INSERT INTO gate.reservation_adjustments AS a (decision_id, period_id, units)
    SELECT * FROM unnest(v_decision, v_period, v_adjusted) n (decision_id, period_id, units)
    ON CONFLICT (decision_id, period_id) DO UPDATE SET units = excluded.units WHERE a.units <> excluded.units;
    PERFORM gate.budget_periods_move(v_period, v_reserved, v_posted);
END $$;

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
        term_months = d.term_months, score = s.score, score_band = s.score_band
    FROM gate.application_outcomes a
    CROSS JOIN LATERAL (SELECT k.* FROM gate.decision_keys k
                        WHERE k.originator_id = a.originator_id AND k.application_id = a.application_id
                        ORDER BY k.revision DESC LIMIT 1) k
    JOIN gate.decisions d ON d.decision_id = k.decision_id AND d.decided_at = k.decided_at
                         AND d.retention_class = k.retention_class
    CROSS JOIN LATERAL gate.input_segment(d.input) s
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
