-- The decision log. Keys live for the whole retention period in one table, decisions in partitions by retention class
-- and month. Bytes are bytes: `input`, `record` and `response` are what was read, thought and answered.

CREATE TABLE gate.decision_keys (
    originator_id integer NOT NULL,
    application_id text COLLATE "C" NOT NULL,
    revision smallint NOT NULL,
    retention_class text NOT NULL,
    decided_at timestamptz NOT NULL,
    decision_id uuid NOT NULL,
    fingerprint bytea NOT NULL,
    PRIMARY KEY (originator_id, application_id, revision)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

CREATE TABLE gate.decisions (
    decision_id uuid NOT NULL,
    decided_at timestamptz NOT NULL,
    retention_class text NOT NULL,
    originator_id integer NOT NULL,
    application_id text COLLATE "C" NOT NULL,
    revision smallint NOT NULL,
    channel_id integer NOT NULL,
    channel_code text NOT NULL,
    sub_id text,
    product text NOT NULL,
    jurisdiction text,
    tier text NOT NULL,
    policy_version integer NOT NULL,
    engine text NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('accept', 'escalate', 'reject')),
    next_action text NOT NULL,
    amount bigint NOT NULL,
    currency text NOT NULL,
    term_months smallint NOT NULL,
    ceiling_amount bigint,
    offered_amount bigint,
    reason_codes text[] NOT NULL,
    applicant_ref text,
    fingerprint bytea NOT NULL,
    content_digest bytea NOT NULL,
    input bytea,
    record bytea,
    response bytea NOT NULL,
    erased_at timestamptz,
    CONSTRAINT decisions_explained CHECK (outcome = 'accept' OR cardinality(reason_codes) > 0),
    PRIMARY KEY (decision_id, decided_at, retention_class)
) PARTITION BY LIST (retention_class);
CREATE INDEX decisions_channel ON gate.decisions (channel_id, decided_at);
CREATE INDEX decisions_applicant ON gate.decisions (applicant_ref) WHERE applicant_ref IS NOT NULL;
ALTER TABLE gate.decisions ALTER COLUMN input SET STORAGE MAIN, ALTER COLUMN record SET STORAGE MAIN,
                           ALTER COLUMN response SET STORAGE MAIN;

CREATE TABLE gate.decisions_consumer PARTITION OF gate.decisions FOR VALUES IN ('consumer')
    PARTITION BY RANGE (decided_at);
CREATE TABLE gate.decisions_business PARTITION OF gate.decisions FOR VALUES IN ('business')
    PARTITION BY RANGE (decided_at);

-- Rows that the database refused by themselves. The input is for the people who mend the cause.
CREATE TABLE gate.quarantine (
    quarantine_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    decision_id uuid NOT NULL,
    originator_id integer NOT NULL,
    fingerprint bytea NOT NULL,
    error_code text NOT NULL,
    input bytea NOT NULL
);

CREATE FUNCTION gate.quarantine_put(
    p_decision_id uuid, p_originator_id integer, p_fingerprint bytea, p_error_code text, p_input bytea
) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO gate.quarantine (decision_id, originator_id, fingerprint, error_code, input)
    VALUES (p_decision_id, p_originator_id, p_fingerprint, p_error_code, p_input)
$$;

-- Makes the monthly partitions from last month to p_months_ahead months from now. A partition is attached, not created
-- in place, so that decisions go on meanwhile. Returns how many were made.
CREATE FUNCTION gate.partitions_ensure(p_months_ahead integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '5s' AS $$
DECLARE
    v_class text;
    v_month timestamptz;
    v_name text;
    v_made integer := 0;
BEGIN
    IF p_months_ahead NOT BETWEEN 0 AND 24 THEN
        RAISE EXCEPTION 'months ahead must be between 0 and 24' USING ERRCODE = 'CG422';
    END IF;
    PERFORM pg_advisory_xact_lock(4840311976251042);
    FOREACH v_class IN ARRAY ARRAY['consumer', 'business'] LOOP
        FOR v_offset IN -1 .. p_months_ahead LOOP
            v_month := date_trunc('month', now()) + make_interval(months => v_offset);
            v_name := format('decisions_%s_%s', v_class, to_char(v_month, 'YYYY_MM'));
            CONTINUE WHEN to_regclass('gate.' || v_name) IS NOT NULL;
            EXECUTE format('CREATE TABLE gate.%I (LIKE gate.decisions INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)
                            WITH (autovacuum_vacuum_insert_scale_factor = 0.02)', v_name);
            PERFORM gate.forbid_truncate(format('gate.%I', v_name)::regclass);
            EXECUTE format('ALTER TABLE gate.%I ATTACH PARTITION gate.%I FOR VALUES FROM (%L) TO (%L)',
                           'decisions_' || v_class, v_name, v_month, v_month + interval '1 month');
            v_made := v_made + 1;
        END LOOP;
    END LOOP;
    RETURN v_made;
END $$;

-- How many whole months from now on every retention class has partitions for.
CREATE FUNCTION gate.partitions_ahead() RETURNS integer
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    v_ahead integer := -1;
    v_month text;
BEGIN
    LOOP
        v_month := to_char(date_trunc('month', now()) + make_interval(months => v_ahead + 1), 'YYYY_MM');
        EXIT WHEN to_regclass('gate.decisions_consumer_' || v_month) IS NULL
               OR to_regclass('gate.decisions_business_' || v_month) IS NULL;
        v_ahead := v_ahead + 1;
    END LOOP;
    RETURN v_ahead;
END $$;
SELECT gate.forbid_truncate('gate.decision_keys', 'gate.decisions', 'gate.decisions_consumer', 'gate.decisions_business',
                            'gate.quarantine');
SELECT gate.partitions_ensure(3);
