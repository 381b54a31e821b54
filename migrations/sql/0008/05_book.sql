-- The book from before the gate, what re-tiering reads of both, and the end of what names a person or an application.

-- A loan that no application of the gate led to. `book` names the import's source. `segment` is that at origination.
CREATE TABLE gate.book_loans (
    loan_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    book text NOT NULL,
    loan_ref text COLLATE "C",
    applicant_ref text,
    channel_id integer NOT NULL REFERENCES gate.channels,
    product text NOT NULL,
    jurisdiction text,
    segment text,
    funded_on date NOT NULL,
    amount bigint NOT NULL CHECK (amount >= 0),
    currency text NOT NULL,
    term_months smallint NOT NULL CHECK (term_months BETWEEN 1 AND 600),
    first_due_on date,
    final_status text CHECK (final_status IN ('paid_off', 'charged_off', 'cancelled')),
    closed_on date,
    complete_through date,
    imported_at timestamptz NOT NULL DEFAULT now(),
    imported_by text NOT NULL,
    erased_at timestamptz,
    CONSTRAINT book_loans_once UNIQUE (book, loan_ref)
);
CREATE INDEX book_loans_applicant ON gate.book_loans (applicant_ref) WHERE applicant_ref IS NOT NULL;

-- The status at the end of a month on book (0: the month of funding).
CREATE TABLE gate.book_months (
    loan_id bigint NOT NULL REFERENCES gate.book_loans,
    month_on_book smallint NOT NULL CHECK (month_on_book BETWEEN 0 AND 600),
    days_past_due integer NOT NULL CHECK (days_past_due >= 0),
    balance bigint CHECK (balance >= 0),
    PRIMARY KEY (loan_id, month_on_book)
);

CREATE UNLOGGED TABLE gate.book_staging (
    load_id uuid NOT NULL,
    number bigint NOT NULL,
    loan_ref text COLLATE "C" NOT NULL,
    applicant_ref text,
    channel_code text NOT NULL,
    product text NOT NULL,
    jurisdiction text,
    segment text,
    funded_on date NOT NULL,
    amount bigint NOT NULL,
    currency text NOT NULL,
    term_months smallint NOT NULL,
    first_due_on date,
    final_status text,
    closed_on date,
    month_on_book smallint,
    days_past_due integer,
    balance bigint
);
CREATE INDEX book_staging_load ON gate.book_staging (load_id, loan_ref);

-- Merges what was staged of a book: the last row of a loan says what it is, each row may say a month. A loan that is
-- imported again is as it is now; who was erased from it stays erased. Rows of unknown channels stay in the staging table
-- and are named by their numbers.
CREATE FUNCTION gate.book_merge(p_load_id uuid, p_book text, p_complete_through date, p_by text)
RETURNS TABLE (loans bigint, months bigint, unknown bigint[])
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = 'force_custom_plan' AS $$
#variable_conflict use_column
DECLARE
    v_loans bigint;
    v_months bigint;
BEGIN
    WITH known AS (
        SELECT code, channel_id FROM gate.channels
        UNION ALL SELECT alias, channel_id FROM gate.channel_aliases
    ), latest AS (
        SELECT DISTINCT ON (s.loan_ref) s.*, k.channel_id
        FROM gate.book_staging s JOIN known k ON k.code = s.channel_code
        WHERE s.load_id = p_load_id ORDER BY s.loan_ref, s.number DESC
    )
    INSERT INTO gate.book_loans AS b (book, loan_ref, applicant_ref, channel_id, product, jurisdiction, segment, funded_on,
                                      amount, currency, term_months, first_due_on, final_status, closed_on,
                                      complete_through, imported_by)
    SELECT p_book, l.loan_ref, l.applicant_ref, l.channel_id, l.product, l.jurisdiction, l.segment, l.funded_on,
           l.amount, l.currency, l.term_months, l.first_due_on, l.final_status, l.closed_on, p_complete_through, p_by
    FROM latest l ORDER BY l.loan_ref
    ON CONFLICT (book, loan_ref) DO UPDATE
    SET applicant_ref = CASE WHEN b.erased_at IS NULL THEN excluded.applicant_ref END, channel_id = excluded.channel_id,
        product = excluded.product, jurisdiction = excluded.jurisdiction, segment = excluded.segment,
        funded_on = excluded.funded_on, amount = excluded.amount, currency = excluded.currency,
        term_months = excluded.term_months, first_due_on = excluded.first_due_on, final_status = excluded.final_status,
        closed_on = excluded.closed_on, complete_through = excluded.complete_through, imported_at = now(),
        imported_by = excluded.imported_by;
    GET DIAGNOSTICS v_loans = ROW_COUNT;
    INSERT INTO gate.book_months AS m (loan_id, month_on_book, days_past_due, balance)
    SELECT DISTINCT ON (b.loan_id, s.month_on_book) b.loan_id, s.month_on_book, s.days_past_due, s.balance
    FROM gate.book_staging s JOIN gate.book_loans b ON b.book = p_book AND b.loan_ref = s.loan_ref
    WHERE s.load_id = p_load_id AND s.month_on_book IS NOT NULL
    ORDER BY b.loan_id, s.month_on_book, s.number DESC
    ON CONFLICT (loan_id, month_on_book) DO UPDATE SET days_past_due = excluded.days_past_due, balance = excluded.balance;
    GET DIAGNOSTICS v_months = ROW_COUNT;
    RETURN QUERY
    WITH gone AS (
        DELETE FROM gate.book_staging s WHERE s.load_id = p_load_id RETURNING s.number, s.channel_code
    )
    SELECT v_loans, v_months, array_agg(g.number ORDER BY g.number)
    FROM gone g
    WHERE NOT EXISTS (SELECT FROM gate.channels c WHERE c.code = g.channel_code)
      AND NOT EXISTS (SELECT FROM gate.channel_aliases a WHERE a.alias = g.channel_code);
END $$;

-- What re-tiering reads: one row a loan. `complete_through` is how far its performance is known (null: not at all).
CREATE VIEW gate.loans AS
SELECT 'gate' AS origin, o.subject_id AS loan_id, o.channel_id, o.product, o.jurisdiction, o.tier,
       o.score_band AS segment, o.score, o.funded_on, o.funded_amount AS amount, o.currency, o.term_months,
       o.first_due_on, o.first_paid_on, o.status, o.closed_on, o.worst_days_past_due,
       (SELECT min(f.performance_complete_through) FROM gate.feeds f
        WHERE f.originator_id = o.originator_id
          AND (f.channel_ids IS NULL OR o.channel_id = ANY (f.channel_ids))) AS complete_through,
       EXISTS (SELECT FROM (SELECT DISTINCT ON (e.discriminator) e.retracted FROM gate.outcome_events e
                            WHERE e.subject_id = o.subject_id AND e.kind = 'fraud'
                            ORDER BY e.discriminator, e.correction DESC, e.digest DESC) v
               WHERE NOT v.retracted) AS fraud, o.flags
FROM gate.application_outcomes o
WHERE o.funded_on IS NOT NULL AND o.channel_id IS NOT NULL
UNION ALL
SELECT 'book', b.loan_id, b.channel_id, b.product, b.jurisdiction, NULL, b.segment, NULL, b.funded_on, b.amount,
       b.currency, b.term_months, b.first_due_on, NULL,
       coalesce(b.final_status, CASE WHEN l.days_past_due > 0 THEN 'past_due' ELSE 'funded' END),
       b.closed_on, w.worst, b.complete_through, false, '{}'
FROM gate.book_loans b
LEFT JOIN LATERAL (SELECT m.days_past_due FROM gate.book_months m WHERE m.loan_id = b.loan_id
                   ORDER BY m.month_on_book DESC LIMIT 1) l ON true
LEFT JOIN LATERAL (SELECT max(m.days_past_due) AS worst FROM gate.book_months m WHERE m.loan_id = b.loan_id) w ON true;

-- And one row a loan and month on book that was reported: the status at its end, and the worst within it.
CREATE VIEW gate.loan_months AS
WITH counting AS (
    SELECT DISTINCT ON (e.subject_id, e.kind, e.discriminator) e.*
    FROM gate.outcome_events e
    WHERE e.kind IN ('performance', 'technical_arrears', 'restructured')
    ORDER BY e.subject_id, e.kind, e.discriminator, e.correction DESC, e.digest DESC
), placed AS (
    SELECT c.*, coalesce(c.month_on_book,
                         (extract(year FROM c.occurred_on) - extract(year FROM o.funded_on)) * 12
                         + extract(month FROM c.occurred_on) - extract(month FROM o.funded_on))::integer AS month
    FROM counting c JOIN gate.application_outcomes o ON o.subject_id = c.subject_id
    WHERE NOT c.retracted AND o.funded_on IS NOT NULL
)
SELECT 'gate' AS origin, p.subject_id AS loan_id, p.month AS month_on_book,
       (max(ARRAY[coalesce(p.occurred_on - date '1970-01-01', 1000000), p.days_past_due])
           FILTER (WHERE p.kind = 'performance'))[2] AS days_past_due,
       max(p.days_past_due) FILTER (WHERE p.kind = 'performance') AS worst_days_past_due,
       (max(ARRAY[coalesce(p.occurred_on - date '1970-01-01', 1000000)::bigint, p.balance])
           FILTER (WHERE p.kind = 'performance' AND p.balance IS NOT NULL))[2] AS balance,
       coalesce(bool_or(p.kind = 'technical_arrears'), false) AS technical,
       coalesce(bool_or(p.kind = 'restructured'), false) AS restructured
FROM placed p WHERE p.month >= 0 GROUP BY p.subject_id, p.month
UNION ALL
SELECT 'book', m.loan_id, m.month_on_book, m.days_past_due, m.days_past_due, m.balance, false, false
FROM gate.book_months m;

-- Erases a person from the log (see gate.person_erase) and from the book from before: there the loan stays and forgets
-- whose it was. A hold keeps both. Refused where neither knows the person.
CREATE FUNCTION gate.person_forget(
    p_applicant_ref text, p_basis text, p_months_consumer integer, p_months_business integer, p_reason text,
    p_actor text, p_request_id text
) RETURNS TABLE (erased bigint, quarantined bigint, on_hold bigint, within_period bigint, loans bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_loans bigint := 0;
    v_held bigint := 0;
BEGIN
    PERFORM gate.custody_lock();
    IF EXISTS (SELECT FROM gate.legal_holds h WHERE h.released_at IS NULL AND h.applicant_ref = p_applicant_ref) THEN
        SELECT count(*) INTO v_held FROM gate.book_loans b WHERE b.applicant_ref = p_applicant_ref;
    ELSE
        UPDATE gate.book_loans b SET applicant_ref = NULL, erased_at = now() WHERE b.applicant_ref = p_applicant_ref;
        GET DIAGNOSTICS v_loans = ROW_COUNT;
    END IF;
    BEGIN
        RETURN QUERY
        SELECT e.erased, e.quarantined, e.on_hold + v_held, e.within_period, v_loans
        FROM gate.person_erase(p_applicant_ref, p_basis, p_months_consumer, p_months_business, p_reason, p_actor,
                               p_request_id) e;
    EXCEPTION WHEN SQLSTATE 'CG404' THEN
        IF v_loans + v_held = 0 THEN
            RAISE;
        END IF;
        PERFORM gate.audit_append(
            p_actor, 'person.erase', 'person', NULL,
            jsonb_build_object('basis', p_basis, 'erased', 0, 'quarantined', 0, 'on_hold', v_held, 'within_period', 0,
                               'loans', v_loans), p_reason, p_request_id);
        RETURN QUERY SELECT 0::bigint, 0::bigint, v_held, 0::bigint, v_loans;
    END;
END $$;

-- Takes the names from what has outlived its decision: an application whose decision has left the log loses its id, and a
-- loan of the book that was closed p_months ago its number and its person, unless a hold is on that person. What is left
-- is a loan, and whose it was nobody can say. Returns how many of each.
CREATE FUNCTION gate.outcomes_deidentify(p_months integer, p_actor text, p_request_id text)
RETURNS TABLE (applications bigint, loans bigint) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_period interval := gate.require_period('consumer', p_months);
    v_applications bigint;
    v_loans bigint;
BEGIN
    PERFORM gate.custody_lock();
    UPDATE gate.application_outcomes o SET application_id = NULL, decision_id = NULL
    WHERE o.application_id IS NOT NULL AND coalesce(o.decided_at, o.first_heard_at) + v_period < now()
      AND NOT EXISTS (SELECT FROM gate.decision_keys k
                      WHERE k.originator_id = o.originator_id AND k.application_id = o.application_id);
    GET DIAGNOSTICS v_applications = ROW_COUNT;
    UPDATE gate.book_loans b SET loan_ref = NULL, applicant_ref = NULL, erased_at = now()
    WHERE b.loan_ref IS NOT NULL AND b.closed_on + v_period < now()
      AND NOT EXISTS (SELECT FROM gate.legal_holds h
                      WHERE h.released_at IS NULL AND h.applicant_ref = b.applicant_ref);
    GET DIAGNOSTICS v_loans = ROW_COUNT;
    IF v_applications + v_loans > 0 THEN
        PERFORM gate.audit_append(p_actor, 'outcomes.deidentify', 'outcomes', NULL,
                                  jsonb_build_object('applications', v_applications, 'loans', v_loans,
                                                     'months', p_months), NULL, p_request_id);
    END IF;
    RETURN QUERY SELECT v_applications, v_loans;
END $$;

SELECT gate.forbid_truncate('gate.book_loans', 'gate.book_months');
