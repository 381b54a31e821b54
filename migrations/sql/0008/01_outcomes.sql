-- What became of applications: facts that only grow, and for each application what they add up to. Rows are written by
-- gate.outcomes_book alone, which has their subjects at hand: no foreign key is checked a million times for that.

-- An application that facts were reported of. It binds to the decision on its latest revision; while there is none the
-- facts wait. What re-tiering needs of the decision is copied, because it outlives the log; of the person, nothing is.
-- The second half is the fold of the facts, and may be made anew at any time: see app/outcomes/state.py.
CREATE TABLE gate.application_outcomes (
    subject_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    originator_id integer NOT NULL REFERENCES gate.originators,
    application_id text COLLATE "C",
    first_heard_at timestamptz NOT NULL DEFAULT now(),
    decision_id uuid,
    revision smallint,
    decided_at timestamptz,
    retention_class text,
    outcome text,
    channel_id integer,
    product text,
    jurisdiction text,
    tier text,
    accepted_amount bigint,
    currency text,
    term_months smallint,
    score integer,
    score_band text,
    status text NOT NULL DEFAULT 'waiting',
    funded_on date,
    funded_amount bigint,
    outstanding bigint NOT NULL DEFAULT 0,
    first_due_on date,
    first_paid_on date,
    performance_on date,
    days_past_due integer,
    worst_days_past_due integer,
    closed_on date,
    flags text[] NOT NULL DEFAULT '{}',
    folded_at timestamptz,
    CONSTRAINT application_outcomes_once UNIQUE (originator_id, application_id)
) WITH (fillfactor = 80);
CREATE INDEX application_outcomes_waiting ON gate.application_outcomes (subject_id) WHERE decision_id IS NULL;
CREATE INDEX application_outcomes_flagged ON gate.application_outcomes (subject_id) WHERE flags <> '{}';
CREATE INDEX application_outcomes_decision ON gate.application_outcomes (decision_id) WHERE decision_id IS NOT NULL;

-- One version of one fact. (kind, discriminator) is its natural key within the application; of its versions the highest
-- correction counts, and of two that differ under one number the greater digest, so that every order of arrival gives
-- the same. Amounts are minor units. `occurred_on` of an instalment that is due is its due date.
CREATE TABLE gate.outcome_events (
    subject_id bigint NOT NULL,
    kind text COLLATE "C" NOT NULL CHECK (kind IN (
        'funded', 'withdrawn', 'cancelled', 'expired', 'declined_downstream', 'instalment_due', 'instalment_paid',
        'performance', 'restructured', 'technical_arrears', 'paid_off', 'charged_off', 'fraud', 'recovered',
        'complaint', 'satisfaction')),
    discriminator text COLLATE "C" NOT NULL CHECK (length(discriminator) <= 100),
    correction integer NOT NULL CHECK (correction >= 0),
    digest bytea NOT NULL CHECK (octet_length(digest) = 16),
    retracted boolean NOT NULL,
    occurred_on date,
    month_on_book smallint CHECK (month_on_book BETWEEN 0 AND 600),
    instalment smallint CHECK (instalment BETWEEN 1 AND 600),
    amount bigint CHECK (amount >= 0),
    currency text,
    balance bigint CHECK (balance >= 0),
    days_past_due integer CHECK (days_past_due >= 0),
    rating smallint CHECK (rating BETWEEN 0 AND 10),
    feed text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    received_by text NOT NULL,
    PRIMARY KEY (subject_id, kind, discriminator, correction, digest)
);
CREATE TRIGGER outcome_events_are_immutable BEFORE UPDATE OR DELETE ON gate.outcome_events
    FOR EACH ROW EXECUTE FUNCTION gate.refuse_change();

-- An event as it is handed in.
CREATE TYPE gate.outcome_row AS (
    originator_id integer,
    application_id text COLLATE "C",
    kind text COLLATE "C",
    discriminator text COLLATE "C",
    correction integer,
    retracted boolean,
    occurred_on date,
    month_on_book smallint,
    instalment smallint,
    amount bigint,
    currency text,
    balance bigint,
    days_past_due integer,
    rating smallint,
    feed text
);

-- Where a file's events are copied to before they are merged. Not logged: a crash empties it, and the load starts over.
-- An application's events share a slot, so that slots can be merged side by side.
CREATE UNLOGGED TABLE gate.outcome_staging (
    load_id uuid NOT NULL,
    slot smallint NOT NULL,
    originator_id integer NOT NULL,
    application_id text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    discriminator text COLLATE "C" NOT NULL,
    correction integer NOT NULL,
    retracted boolean NOT NULL,
    occurred_on date,
    month_on_book smallint,
    instalment smallint,
    amount bigint,
    currency text,
    balance bigint,
    days_past_due integer,
    rating smallint,
    feed text NOT NULL
);
CREATE INDEX outcome_staging_load ON gate.outcome_staging (load_id, slot);

-- What tells two versions of a fact apart: what it says, and not who said it through which feed.
CREATE FUNCTION gate.outcome_digest(
    p_retracted boolean, p_occurred_on date, p_month_on_book smallint, p_instalment smallint, p_amount bigint,
    p_currency text, p_balance bigint, p_days_past_due integer, p_rating smallint
) RETURNS bytea LANGUAGE sql STABLE AS $$
    SELECT substring(sha256(convert_to(concat_ws('|',
        p_retracted, coalesce((p_occurred_on - date '2000-01-01')::text, ''), coalesce(p_month_on_book::text, ''),
        coalesce(p_instalment::text, ''), coalesce(p_amount::text, ''), coalesce(p_currency, ''),
        coalesce(p_balance::text, ''), coalesce(p_days_past_due::text, ''), coalesce(p_rating::text, '')), 'UTF8')), 1, 16)
$$;

SELECT gate.forbid_truncate('gate.application_outcomes', 'gate.outcome_events');
