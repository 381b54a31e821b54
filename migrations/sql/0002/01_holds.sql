-- What must be kept: legal holds, and the one rule that says when the clock of a decision starts.

-- One hold covers a person, a decision or a whole channel. The person's reference is blanked when the hold ends.
CREATE TABLE gate.legal_holds (
    hold_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('applicant', 'decision', 'channel')),
    applicant_ref text,
    decision_id uuid,
    channel_id integer REFERENCES gate.channels,
    reason text NOT NULL,
    placed_by text NOT NULL,
    placed_at timestamptz NOT NULL,
    released_at timestamptz,
    released_by text,
    release_reason text,
    CONSTRAINT legal_holds_name_one_subject CHECK (
        (kind = 'applicant') = (applicant_ref IS NOT NULL) AND (kind = 'decision') = (decision_id IS NOT NULL)
        AND (kind = 'channel') = (channel_id IS NOT NULL) OR (kind = 'applicant' AND released_at IS NOT NULL))
);

CREATE FUNCTION gate.only_release_hold() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.released_at IS NULL AND NEW.released_at IS NOT NULL
       AND (OLD.hold_id, OLD.kind, OLD.decision_id, OLD.channel_id, OLD.reason, OLD.placed_by, OLD.placed_at)
           IS NOT DISTINCT FROM
           (NEW.hold_id, NEW.kind, NEW.decision_id, NEW.channel_id, NEW.reason, NEW.placed_by, NEW.placed_at)
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'a legal hold may only be released' USING ERRCODE = 'CG403';
END $$;
CREATE TRIGGER legal_holds_are_immutable BEFORE UPDATE OR DELETE ON gate.legal_holds
    FOR EACH ROW EXECUTE FUNCTION gate.only_release_hold();

-- When the retention period of a decision begins: at final notice or at closure. What a person still has to review
-- counts as open for the 30 days within which notice is due (Reg B, 1002.9(a)(1)). This is the one place that says so.
-- It names no search_path, so that the planner can put it in line over millions of rows; its callers pin theirs.
CREATE FUNCTION gate.retention_clock_start(
    p_decision_id uuid, p_decided_at timestamptz, p_outcome text, p_next_action text
) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN p_outcome = 'escalate' AND p_next_action = 'review' THEN p_decided_at + interval '30 days'
                ELSE p_decided_at END
$$;

-- What stands between a decision and its removal.
CREATE VIEW gate.decision_custody AS
SELECT d.decision_id, d.decided_at, d.retention_class, d.originator_id, d.application_id, d.revision, d.applicant_ref,
       d.erased_at,
       gate.retention_clock_start(d.decision_id, d.decided_at, d.outcome, d.next_action) AS clock_start,
       EXISTS (SELECT FROM gate.legal_holds h WHERE h.released_at IS NULL AND h.applicant_ref = d.applicant_ref)
       OR EXISTS (SELECT FROM gate.legal_holds h WHERE h.released_at IS NULL AND h.decision_id = d.decision_id)
       OR EXISTS (SELECT FROM gate.legal_holds h WHERE h.released_at IS NULL AND h.channel_id = d.channel_id) AS on_hold
FROM gate.decisions d;

-- Whatever places a hold, removes or blanks waits for its turn: a hold never slips in between a look and a removal.
CREATE FUNCTION gate.custody_lock() RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp AS
    $$ SELECT pg_advisory_xact_lock(4840311976251043) $$;

CREATE FUNCTION gate.require_text(p_what text, p_text text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF coalesce(btrim(p_text), '') = '' THEN
        RAISE EXCEPTION '% must be given', p_what USING ERRCODE = 'CG422';
    END IF;
END $$;

-- Places a hold on exactly one subject. A person may be named before anything of theirs is decided.
CREATE FUNCTION gate.hold_place(
    p_applicant_ref text, p_decision_id uuid, p_channel_code text, p_reason text, p_actor text, p_request_id text
) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_kind text;
    v_channel_id integer;
    v_hold_id bigint;
BEGIN
    PERFORM gate.require_text('a reason', p_reason);
    IF num_nonnulls(p_applicant_ref, p_decision_id, p_channel_code) <> 1 OR p_applicant_ref = '' THEN
        RAISE EXCEPTION 'a hold names one person, one decision or one channel' USING ERRCODE = 'CG422';
    END IF;
    IF position(p_applicant_ref IN p_reason) > 0 THEN
        RAISE EXCEPTION 'the reason must not name the person' USING ERRCODE = 'CG422';
    END IF;
    PERFORM gate.custody_lock();
    v_kind := CASE WHEN p_applicant_ref IS NOT NULL THEN 'applicant'
                   WHEN p_decision_id IS NOT NULL THEN 'decision' ELSE 'channel' END;
    IF v_kind = 'channel' THEN
        SELECT channel_id INTO v_channel_id FROM gate.channels WHERE code = p_channel_code;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'no channel has that code' USING ERRCODE = 'CG404';
        END IF;
    ELSIF v_kind = 'decision' AND NOT EXISTS (SELECT FROM gate.decisions WHERE decision_id = p_decision_id) THEN
        RAISE EXCEPTION 'the log has no decision of that id' USING ERRCODE = 'CG404';
    END IF;
    INSERT INTO gate.legal_holds (kind, applicant_ref, decision_id, channel_id, reason, placed_by, placed_at)
    VALUES (v_kind, p_applicant_ref, p_decision_id, v_channel_id, p_reason, p_actor, now())
    RETURNING hold_id INTO v_hold_id;
    PERFORM gate.audit_append(
        p_actor, 'hold.place', v_hold_id::text, NULL,
        jsonb_build_object('kind', v_kind, 'decision_id', p_decision_id, 'channel', p_channel_code),
        p_reason, p_request_id);
    RETURN v_hold_id;
END $$;

CREATE FUNCTION gate.hold_release(p_hold_id bigint, p_reason text, p_actor text, p_request_id text)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_hold gate.legal_holds;
BEGIN
    PERFORM gate.require_text('a reason', p_reason);
    PERFORM gate.custody_lock();
    SELECT * INTO v_hold FROM gate.legal_holds WHERE hold_id = p_hold_id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no legal hold has that number' USING ERRCODE = 'CG404';
    ELSIF v_hold.released_at IS NOT NULL THEN
        RAISE EXCEPTION 'that legal hold has been released already' USING ERRCODE = 'CG409';
    ELSIF position(v_hold.applicant_ref IN p_reason) > 0 THEN
        RAISE EXCEPTION 'the reason must not name the person' USING ERRCODE = 'CG422';
    END IF;
    UPDATE gate.legal_holds
    SET released_at = now(), released_by = p_actor, release_reason = p_reason, applicant_ref = NULL
    WHERE hold_id = p_hold_id;
    PERFORM gate.audit_append(p_actor, 'hold.release', p_hold_id::text, jsonb_build_object('kind', v_hold.kind), NULL,
                              p_reason, p_request_id);
END $$;

SELECT gate.forbid_truncate('gate.legal_holds');
