-- What-ifs that a service runs for somebody: a row is what any worker knows of one, while it runs and afterwards.

CREATE TABLE gate.whatif_runs (
    run_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    draft_id integer NOT NULL REFERENCES gate.policy_drafts,
    document_digest bytea NOT NULL,
    question text NOT NULL,
    state text NOT NULL CHECK (state IN ('running', 'done', 'cancelled', 'failed')),
    phase text NOT NULL CHECK (phase IN ('starting', 'reading', 'deciding')),
    rows_done bigint NOT NULL DEFAULT 0,
    rows_total bigint,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL,
    heard_at timestamptz NOT NULL,
    cancelled_by text,
    ended_at timestamptz,
    failure text,
    report_id bigint REFERENCES gate.whatif_reports,
    measured jsonb,
    CONSTRAINT whatif_runs_end CHECK ((state = 'running') = (ended_at IS NULL)),
    CONSTRAINT whatif_runs_report CHECK ((state = 'done') = (report_id IS NOT NULL)),
    CONSTRAINT whatif_runs_failure CHECK ((state = 'failed') = (failure IS NOT NULL))
);
CREATE INDEX whatif_runs_of_draft ON gate.whatif_runs (draft_id, run_id);
-- A run takes a processor for as long as it lasts, so there is one at a time.
CREATE UNIQUE INDEX whatif_runs_one_at_a_time ON gate.whatif_runs (state) WHERE state = 'running';

-- A run whose process has said nothing for a minute is over: it says where it is twice a second.
CREATE FUNCTION gate.whatif_close_silent() RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    UPDATE gate.whatif_runs SET state = 'failed', failure = 'its process is gone', ended_at = clock_timestamp()
    WHERE state = 'running' AND heard_at < clock_timestamp() - interval '60 seconds'
$$;

CREATE FUNCTION gate.whatif_begin(p_draft_id integer, p_question text, p_actor text) RETURNS gate.whatif_runs
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_draft gate.policy_drafts := gate.draft_locked(p_draft_id);
    v_run gate.whatif_runs;
BEGIN
    IF v_draft.state NOT IN ('draft', 'in_review') THEN
        RAISE EXCEPTION 'the draft is % and takes no report', v_draft.state USING ERRCODE = 'CG409';
    END IF;
    PERFORM gate.whatif_close_silent();
    BEGIN
        INSERT INTO gate.whatif_runs (draft_id, document_digest, question, state, phase, created_by, created_at, heard_at)
        VALUES (p_draft_id, v_draft.digest, p_question, 'running', 'starting', p_actor, clock_timestamp(),
                clock_timestamp())
        RETURNING * INTO v_run;
    EXCEPTION WHEN unique_violation THEN
        RAISE EXCEPTION 'another what-if is running: wait for its end, or cancel it' USING ERRCODE = 'CG409';
    END;
    RETURN v_run;
END $$;

-- Says how far a run is; answers whether it should go on.
CREATE FUNCTION gate.whatif_progress(p_run_id bigint, p_phase text, p_done bigint, p_total bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_run gate.whatif_runs;
BEGIN
    UPDATE gate.whatif_runs
    SET phase = p_phase, rows_done = p_done, rows_total = p_total, heard_at = clock_timestamp()
    WHERE run_id = p_run_id AND state = 'running' RETURNING * INTO v_run;
    RETURN FOUND AND v_run.cancelled_by IS NULL;
END $$;

-- Asks a run to stop, which its process hears within a second. One that is over stays as it is.
CREATE FUNCTION gate.whatif_cancel(p_draft_id integer, p_run_id bigint, p_actor text) RETURNS gate.whatif_runs
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_run gate.whatif_runs;
BEGIN
    PERFORM gate.whatif_close_silent();
    UPDATE gate.whatif_runs SET cancelled_by = coalesce(cancelled_by, p_actor)
    WHERE run_id = p_run_id AND draft_id = p_draft_id AND state = 'running';
    SELECT * INTO v_run FROM gate.whatif_runs WHERE run_id = p_run_id AND draft_id = p_draft_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the draft has no such what-if' USING ERRCODE = 'CG404';
    END IF;
    RETURN v_run;
END $$;

-- Ends a run: `done` with its report, which is on the document that the run began with, `cancelled`, or `failed`.
CREATE FUNCTION gate.whatif_end(
    p_run_id bigint, p_state text, p_failure text, p_report_id bigint, p_measured jsonb
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_run gate.whatif_runs;
BEGIN
    SELECT * INTO v_run FROM gate.whatif_runs WHERE run_id = p_run_id AND state = 'running' FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    ELSIF p_report_id IS NOT NULL AND NOT EXISTS (
        SELECT FROM gate.whatif_reports r WHERE r.report_id = p_report_id AND r.draft_id = v_run.draft_id
        AND r.document_digest = v_run.document_digest)
    THEN
        RAISE EXCEPTION 'the report is not on the document of the run' USING ERRCODE = 'CG422';
    END IF;
    UPDATE gate.whatif_runs
    SET state = p_state, failure = p_failure, report_id = p_report_id, measured = p_measured, ended_at = clock_timestamp()
    WHERE run_id = p_run_id;
END $$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA gate FROM PUBLIC;
GRANT SELECT ON gate.whatif_runs TO {{serving}}, {{governance}};
GRANT EXECUTE ON FUNCTION gate.whatif_begin(integer, text, text), gate.whatif_progress(bigint, text, bigint, bigint),
    gate.whatif_cancel(integer, bigint, text), gate.whatif_end(bigint, text, text, bigint, jsonb) TO {{governance}};
