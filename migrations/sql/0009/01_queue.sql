-- The queue of reviews: what a person still has to decide. It follows from the log; the flush writes nothing for it.

ALTER TABLE gate.persons DROP CONSTRAINT persons_roles_check;
ALTER TABLE gate.persons ADD CONSTRAINT persons_roles_check CHECK (
    cardinality(roles) > 0 AND roles <@ ARRAY['policy-author', 'policy-approver', 'admin', 'reviewer']);

CREATE INDEX decisions_review ON gate.decisions (decided_at) WHERE next_action = 'review';

-- One row for each decision that a person has to look at: an escalation, or a reject that the applicant contests. The
-- decision in the log stays as it was made. `opened_at` is when the 30 days began. `two_persons` says that accepting
-- takes a second one: against a reject rule, above the ceiling, or where no ceiling could be found. `proposal` is what
-- the first has signed; whoever holds the row (until `held_until`) may resolve it. No applicant's data is in here.
CREATE TABLE gate.reviews (
    decision_id uuid PRIMARY KEY,
    decided_at timestamptz NOT NULL,
    retention_class text NOT NULL,
    originator_id integer NOT NULL REFERENCES gate.originators,
    application_id text COLLATE "C" NOT NULL,
    revision smallint NOT NULL,
    channel_id integer NOT NULL REFERENCES gate.channels,
    product text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('escalation', 'contest')),
    opened_at timestamptz NOT NULL,
    due_at timestamptz NOT NULL,
    priority smallint NOT NULL CHECK (priority BETWEEN 1 AND 5),
    two_persons boolean NOT NULL,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'proposed', 'accepted', 'rejected', 'superseded')),
    holder text,
    held_until timestamptz,
    proposal text,
    nonce text,
    proposed_by text REFERENCES gate.persons,
    approved_by text REFERENCES gate.persons,
    single_person boolean NOT NULL DEFAULT false,
    resolved_at timestamptz,
    resolved_by text,
    version bigint NOT NULL DEFAULT 1,
    CONSTRAINT reviews_held CHECK ((holder IS NULL) = (held_until IS NULL)),
    CONSTRAINT reviews_proposed CHECK (state <> 'proposed' OR (proposed_by IS NOT NULL AND nonce IS NOT NULL)),
    CONSTRAINT reviews_two_persons CHECK (approved_by <> proposed_by),
    CONSTRAINT reviews_approved CHECK (
        state <> 'accepted' OR NOT two_persons OR single_person OR (proposed_by IS NOT NULL AND approved_by IS NOT NULL)),
    CONSTRAINT reviews_resolved CHECK ((state IN ('open', 'proposed')) = (resolved_at IS NULL))
);
CREATE INDEX reviews_open ON gate.reviews (due_at, decision_id) WHERE resolved_at IS NULL;
CREATE INDEX reviews_closed ON gate.reviews (due_at, decision_id) WHERE resolved_at IS NOT NULL;
CREATE INDEX reviews_month ON gate.reviews (retention_class, decided_at);

-- What was decided once stays decided: only what an erasure blanks may still change.
CREATE FUNCTION gate.review_is_resolved_once() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF OLD.resolved_at IS NOT NULL AND to_jsonb(OLD) - 'proposal' <> to_jsonb(NEW) - 'proposal' THEN
        RAISE EXCEPTION 'a review is resolved once' USING ERRCODE = 'CG409';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER reviews_are_resolved_once BEFORE UPDATE ON gate.reviews
    FOR EACH ROW EXECUTE FUNCTION gate.review_is_resolved_once();

-- What was done, in order. `note` is what the person gave as the reason, `facts` what the acceptance rested on.
CREATE TABLE gate.review_actions (
    action_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    decision_id uuid NOT NULL REFERENCES gate.reviews,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    action text NOT NULL CHECK (action IN ('contested', 'claimed', 'released', 'prioritised', 'proposed', 'declined',
                                           'accepted', 'rejected', 'superseded')),
    actor text NOT NULL,
    note text,
    facts jsonb
);
CREATE INDEX review_actions_review ON gate.review_actions (decision_id, action_id);

-- An erasure blanks a note; a row goes with its decision, when the log has dropped that.
CREATE FUNCTION gate.only_blank_action() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.note IS NULL AND to_jsonb(OLD) - 'note' = to_jsonb(NEW) - 'note' THEN
        RETURN NEW;
    ELSIF TG_OP = 'DELETE' AND NOT EXISTS (SELECT FROM gate.decisions d WHERE d.decision_id = OLD.decision_id) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'the history of a review is immutable' USING ERRCODE = 'CG403';
END $$;
CREATE TRIGGER review_actions_are_immutable BEFORE UPDATE OR DELETE ON gate.review_actions
    FOR EACH ROW EXECUTE FUNCTION gate.only_blank_action();

-- How far the log has been read: every escalation that was decided before `complete_to` is in the queue. All that was
-- under way at `mark_at` is over once no transaction below `mark_transaction` is.
CREATE TABLE gate.review_intake (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    complete_to timestamptz NOT NULL DEFAULT '-infinity',
    mark_at timestamptz NOT NULL DEFAULT '-infinity',
    mark_transaction bigint NOT NULL DEFAULT 0
);
INSERT INTO gate.review_intake DEFAULT VALUES;

-- When notice is due, as it was answered: 30 days after the application was complete, and never later than 30 days
-- after the decision.
CREATE FUNCTION gate.review_due_at(p_response bytea, p_decided_at timestamptz) RETURNS timestamptz
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN least((convert_from(p_response, 'UTF8')::jsonb ->> 'due_at')::timestamptz, p_decided_at + interval '30 days');
EXCEPTION WHEN data_exception THEN
    RETURN p_decided_at + interval '30 days';
END $$;

CREATE FUNCTION gate.review_takes_two(p_outcome text, p_amount bigint, p_ceiling_amount bigint) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS
    $$ SELECT p_outcome = 'reject' OR p_ceiling_amount IS NULL OR p_amount > p_ceiling_amount $$;

-- Takes into the queue what the log has to review and the queue has not yet: escalations, and held decisions that were
-- screened again and escalated then. A flush takes a moment to commit, or, where
-- a standby is away, hours: so the reading goes over what was decided since five minutes before a mark again until every
-- transaction of that time is over: those that began before this one have lower numbers. p_all: the whole log, whatever has been read.
CREATE FUNCTION gate.reviews_gather(p_all boolean DEFAULT false) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_intake gate.review_intake;
    v_is_over boolean;
    v_gathered integer;
BEGIN
    PERFORM pg_advisory_xact_lock(4840311976251044);
    SELECT * INTO STRICT v_intake FROM gate.review_intake;
    v_is_over := v_intake.mark_transaction <= pg_snapshot_xmin(pg_current_snapshot())::text::bigint;
    INSERT INTO gate.reviews (decision_id, decided_at, retention_class, originator_id, application_id, revision,
                              channel_id, product, kind, opened_at, due_at, priority, two_persons)
    SELECT d.decision_id, d.decided_at, d.retention_class, d.originator_id, d.application_id, d.revision, d.channel_id,
           d.product, 'escalation', u.due_at - interval '30 days', u.due_at, 3,
           gate.review_takes_two(d.outcome, d.amount, d.ceiling_amount)
    FROM (SELECT e.decision_id, e.decided_at, e.retention_class FROM gate.decisions e
          WHERE e.next_action = 'review' AND (p_all OR e.decided_at >= v_intake.complete_to)
          UNION ALL
          SELECT h.decision_id, h.decided_at, h.retention_class FROM gate.held_queue h
          WHERE h.next_action = 'review' AND h.closed_at IS NOT NULL AND (p_all OR h.closed_at >= v_intake.complete_to)
         ) due
    JOIN gate.decisions d USING (decision_id, decided_at, retention_class),
         LATERAL (SELECT gate.review_due_at(d.response, d.decided_at) AS due_at OFFSET 0) u
    WHERE NOT EXISTS (SELECT FROM gate.reviews r WHERE r.decision_id = due.decision_id)
    ORDER BY d.decision_id
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS v_gathered = ROW_COUNT;
    IF v_is_over THEN
        UPDATE gate.review_intake
        SET complete_to = mark_at, mark_at = clock_timestamp() - interval '5 minutes',
            mark_transaction = pg_current_xact_id()::text::bigint;
    END IF;
    RETURN v_gathered;
END $$;

CREATE FUNCTION gate.review_act(p_decision_id uuid, p_action text, p_actor text, p_note text, p_facts jsonb)
RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO gate.review_actions (decision_id, action, actor, note, facts)
    VALUES (p_decision_id, p_action, p_actor, p_note, p_facts)
$$;

CREATE FUNCTION gate.review_is_superseded(p_review gate.reviews) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM gate.decision_keys k
                   WHERE k.originator_id = p_review.originator_id AND k.application_id = p_review.application_id
                     AND k.revision > p_review.revision)
$$;

-- Closes what an amendment has overtaken. Until then nobody can claim or resolve it.
CREATE FUNCTION gate.reviews_supersede() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_over uuid[];
BEGIN
    SELECT array_agg(o.decision_id) INTO v_over FROM (
        SELECT r.decision_id FROM gate.reviews r WHERE r.resolved_at IS NULL AND gate.review_is_superseded(r)
        ORDER BY r.decision_id FOR UPDATE SKIP LOCKED) o;
    UPDATE gate.reviews
    SET state = 'superseded', resolved_at = clock_timestamp(), resolved_by = 'gate', holder = NULL, held_until = NULL,
        version = version + 1
    WHERE decision_id = ANY (v_over);
    PERFORM gate.review_act(decision_id, 'superseded', 'gate', NULL, NULL) FROM unnest(v_over) AS o (decision_id);
    RETURN coalesce(cardinality(v_over), 0);
END $$;

-- Where reviewers begin: what has two days or less, then by priority, then what is due first.
CREATE FUNCTION gate.review_claim_next(p_holder text, p_lease interval, p_actor text) RETURNS SETOF gate.reviews
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_review gate.reviews;
BEGIN
    SELECT r.* INTO v_review FROM gate.reviews r
    WHERE r.resolved_at IS NULL AND r.state = 'open' AND coalesce(r.held_until <= clock_timestamp(), true)
      AND NOT gate.review_is_superseded(r)
    ORDER BY r.due_at > clock_timestamp() + interval '2 days', r.priority, r.due_at, r.decision_id
    LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF FOUND THEN
        RETURN NEXT gate.review_take(v_review, p_holder, p_lease, p_actor);
    END IF;
END $$;

CREATE FUNCTION gate.review_take(p_review gate.reviews, p_holder text, p_lease interval, p_actor text)
RETURNS gate.reviews LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_review gate.reviews;
BEGIN
    PERFORM gate.require_text('a holder', p_holder);
    IF p_lease IS NULL OR p_lease NOT BETWEEN interval '1 second' AND interval '8 hours' THEN
        RAISE EXCEPTION 'a lease is a second to eight hours' USING ERRCODE = 'CG422';
    END IF;
    UPDATE gate.reviews SET holder = p_holder, held_until = clock_timestamp() + p_lease, version = version + 1
    WHERE decision_id = p_review.decision_id RETURNING * INTO v_review;
    PERFORM gate.review_act(p_review.decision_id, 'claimed', p_actor, NULL, NULL);
    RETURN v_review;
END $$;

-- The row, locked, where something may still be done about it. p_version null: whichever it is.
CREATE FUNCTION gate.review_locked(p_decision_id uuid, p_version bigint) RETURNS gate.reviews
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_review gate.reviews;
BEGIN
    SELECT * INTO v_review FROM gate.reviews WHERE decision_id = p_decision_id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is nothing to review about that decision' USING ERRCODE = 'CG404';
    ELSIF v_review.resolved_at IS NOT NULL THEN
        RAISE EXCEPTION 'the review is % already', v_review.state USING ERRCODE = 'CG409';
    ELSIF p_version <> v_review.version THEN
        RAISE EXCEPTION 'the review has changed since it was read' USING ERRCODE = 'CG412';
    ELSIF gate.review_is_superseded(v_review) THEN
        RAISE EXCEPTION 'a newer revision of the application has been decided' USING ERRCODE = 'CG409';
    END IF;
    RETURN v_review;
END $$;

CREATE FUNCTION gate.review_claim(p_decision_id uuid, p_holder text, p_lease interval, p_actor text)
RETURNS gate.reviews LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_review gate.reviews := gate.review_locked(p_decision_id, NULL);
BEGIN
    IF v_review.state = 'proposed' THEN
        RAISE EXCEPTION 'the review waits for a second person' USING ERRCODE = 'CG409';
    ELSIF v_review.holder <> p_holder AND v_review.held_until > clock_timestamp() THEN
        RAISE EXCEPTION 'another reviewer has claimed it' USING ERRCODE = 'CG409';
    END IF;
    RETURN gate.review_take(v_review, p_holder, p_lease, p_actor);
END $$;

CREATE FUNCTION gate.review_release(p_decision_id uuid, p_holder text, p_actor text) RETURNS gate.reviews
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_review gate.reviews := gate.review_locked(p_decision_id, NULL);
BEGIN
    IF v_review.holder IS DISTINCT FROM p_holder THEN
        RAISE EXCEPTION 'only who has claimed a review releases it' USING ERRCODE = 'CG409';
    END IF;
    UPDATE gate.reviews SET holder = NULL, held_until = NULL, version = version + 1
    WHERE decision_id = p_decision_id RETURNING * INTO v_review;
    PERFORM gate.review_act(p_decision_id, 'released', p_actor, NULL, NULL);
    RETURN v_review;
END $$;

CREATE FUNCTION gate.review_prioritise(
    p_decision_id uuid, p_version bigint, p_priority integer, p_reason text, p_actor text
) RETURNS gate.reviews LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_review gate.reviews := gate.review_locked(p_decision_id, p_version);
BEGIN
    UPDATE gate.reviews SET priority = p_priority, version = version + 1
    WHERE decision_id = p_decision_id RETURNING * INTO v_review;
    PERFORM gate.review_act(p_decision_id, 'prioritised', p_actor, p_reason, jsonb_build_object('priority', p_priority));
    RETURN v_review;
END $$;

-- An applicant asks that a person looks at a reject: once, and as long as it is the newest decision on the application.
-- p_originator null: whosever it is.
CREATE FUNCTION gate.review_contest(
    p_decision_id uuid, p_originator integer, p_reason text, p_actor text, p_request_id text
) RETURNS TABLE (review gate.reviews, is_new boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_decision record;
    v_review gate.reviews;
    v_now timestamptz := clock_timestamp();
BEGIN
    SELECT d.*, coalesce(h.outcome, d.outcome) AS came_to INTO v_decision
    FROM gate.decisions d LEFT JOIN gate.held_queue h ON h.decision_id = d.decision_id
    WHERE d.decision_id = p_decision_id AND coalesce(d.originator_id = p_originator, true);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no such decision' USING ERRCODE = 'CG404';
    END IF;
    SELECT * INTO v_review FROM gate.reviews r WHERE r.decision_id = p_decision_id;
    IF FOUND AND v_review.kind = 'contest' THEN
        RETURN QUERY SELECT v_review, false;
        RETURN;
    ELSIF v_decision.came_to <> 'reject' THEN
        RAISE EXCEPTION 'only a reject that no person has made can be contested' USING ERRCODE = 'CG409';
    ELSIF v_decision.erased_at IS NOT NULL THEN
        RAISE EXCEPTION 'what the decision rested on has been erased' USING ERRCODE = 'CG409';
    END IF;
    INSERT INTO gate.reviews AS r (decision_id, decided_at, retention_class, originator_id, application_id, revision,
                                   channel_id, product, kind, opened_at, due_at, priority, two_persons)
    VALUES (p_decision_id, v_decision.decided_at, v_decision.retention_class, v_decision.originator_id,
            v_decision.application_id, v_decision.revision, v_decision.channel_id, v_decision.product, 'contest', v_now,
            v_now + interval '30 days', 2, true)
    ON CONFLICT DO NOTHING RETURNING * INTO v_review;
    IF NOT FOUND THEN
        RETURN QUERY SELECT r, false FROM gate.reviews r WHERE r.decision_id = p_decision_id;
        RETURN;
    ELSIF gate.review_is_superseded(v_review) THEN
        RAISE EXCEPTION 'a newer revision of the application has been decided' USING ERRCODE = 'CG409';
    END IF;
    PERFORM gate.review_act(p_decision_id, 'contested', p_actor, p_reason, NULL);
    PERFORM gate.audit_append(p_actor, 'review.contest', p_decision_id::text, NULL,
                              jsonb_build_object('due_at', gate.utc_text(v_review.due_at)), NULL, p_request_id);
    RETURN QUERY SELECT v_review, true;
END $$;

SELECT gate.forbid_truncate('gate.reviews', 'gate.review_actions', 'gate.review_intake');
SELECT gate.reviews_gather();
SELECT gate.reviews_supersede();
