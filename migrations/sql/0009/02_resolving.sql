-- What a reviewer decides. It takes the locks of the flush in its order: fence (shared); the application and the person,
-- by hash; the review; reservations; budget periods by id; last the head of the audit log.

-- The decision that is reviewed, once nobody else decides on its application or its person.
CREATE FUNCTION gate.review_subject(p_decision_id uuid) RETURNS gate.decisions
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_decision gate.decisions;
BEGIN
    PERFORM gate.fence_shared();
    SELECT d.* INTO v_decision FROM gate.decisions d JOIN gate.reviews r USING (decision_id, decided_at, retention_class)
    WHERE r.decision_id = p_decision_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is nothing to review about that decision' USING ERRCODE = 'CG404';
    END IF;
    PERFORM gate.application_lock(v_decision.originator_id, v_decision.application_id, v_decision.applicant_ref);
    RETURN v_decision;
END $$;

-- Writes down how a review ended, and tells the originator.
CREATE FUNCTION gate.review_close(
    p_decision gate.decisions, p_state text, p_note text, p_facts jsonb, p_proposed_by text, p_approved_by text,
    p_single_person boolean, p_actor text, p_request_id text
) RETURNS gate.reviews LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_review gate.reviews;
    v_reservation gate.reservations;
BEGIN
    UPDATE gate.reviews
    SET state = p_state, resolved_at = clock_timestamp(), resolved_by = p_actor, proposed_by = p_proposed_by,
        approved_by = p_approved_by, single_person = p_single_person, holder = NULL, held_until = NULL,
        version = version + 1
    WHERE decision_id = p_decision.decision_id RETURNING * INTO v_review;
    PERFORM gate.review_act(p_decision.decision_id, p_state, p_actor, p_note, p_facts);
    SELECT * INTO v_reservation FROM gate.reservations WHERE decision_id = p_decision.decision_id;
    PERFORM gate.event_put(
        p_decision.originator_id, 'decision.resolved', p_decision.decision_id::text, jsonb_build_object(
            'decision_id', p_decision.decision_id, 'application_id', p_decision.application_id,
            'revision', p_decision.revision, 'channel', p_decision.channel_code,
            'outcome', CASE p_state WHEN 'accepted' THEN 'accept' ELSE 'reject' END,
            'next_action', CASE p_state WHEN 'accepted' THEN 'proceed' ELSE 'decline' END, 'by', 'reviewer',
            'amount', v_reservation.amount, 'currency', v_reservation.currency,
            'expires_at', gate.utc_text(v_reservation.expires_at), 'at', gate.utc_text(v_review.resolved_at)));
    -- The reason may speak of the applicant, and a chain cannot forget: it stays in the review's history.
    PERFORM gate.audit_append(
        p_actor, CASE p_state WHEN 'accepted' THEN 'review.accept' ELSE 'review.reject' END,
        p_decision.decision_id::text, jsonb_build_object('kind', v_review.kind, 'two_persons', v_review.two_persons),
        jsonb_build_object('state', p_state, 'proposed_by', p_proposed_by, 'approved_by', p_approved_by,
                           'single_person', p_single_person), NULL, p_request_id);
    RETURN v_review;
END $$;

-- Makes an accept of it: the channel, the person and the budgets are looked at as they are now, and its units reserved.
CREATE FUNCTION gate.review_accept(
    p_decision gate.decisions, p_note text, p_proposed_by text, p_approved_by text, p_single_person boolean,
    p_actor text, p_request_id text
) RETURNS gate.reviews LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_channel gate.channels;
    v_person text[];
    v_budget bigint[];
    v_units bigint[];
BEGIN
    SELECT * INTO STRICT v_channel FROM gate.channels WHERE channel_id = p_decision.channel_id;
    IF p_decision.erased_at IS NOT NULL THEN
        RAISE EXCEPTION 'what the decision rested on has been erased: it can only be rejected' USING ERRCODE = 'CG409';
    ELSIF v_channel.state NOT IN ('probation', 'active') OR v_now < v_channel.valid_from
          OR v_now >= v_channel.valid_to THEN
        RAISE EXCEPTION 'the channel is not served now' USING ERRCODE = 'CG409';
    END IF;
    IF p_decision.applicant_ref IS NOT NULL THEN
        v_person := string_to_array(gate.person_facts(
            p_decision.applicant_ref, p_decision.product, p_decision.channel_id, p_decision.originator_id,
            p_decision.application_id, v_now), ' ');
        IF v_person[1]::bigint > 0 THEN
            RAISE EXCEPTION 'the person has another open accept of this product' USING ERRCODE = 'CG409';
        END IF;
    END IF;
    SELECT coalesce(array_agg(b.budget_id ORDER BY b.budget_id), '{}'),
           coalesce(array_agg(gate.budget_units(b.measure, b.loss_rate_ppm, p_decision.amount, p_decision.tier)
                              ORDER BY b.budget_id), '{}')
    INTO v_budget, v_units
    FROM gate.budgets b
    WHERE b.ended_at IS NULL
      AND gate.budget_covers(b, p_decision.channel_id, p_decision.tier, p_decision.product, p_decision.jurisdiction,
                             p_decision.currency);
    IF NOT gate.reservation_make(p_decision.decision_id, p_decision.decided_at, p_decision.retention_class,
                                 p_decision.channel_id, p_decision.amount, p_decision.currency, v_now, v_budget, v_units)
    THEN
        RAISE EXCEPTION 'a budget that it falls under has no room for it' USING ERRCODE = 'CG409';
    END IF;
    RETURN gate.review_close(
        p_decision, 'accepted', p_note, jsonb_build_object(
            'channel_state', v_channel.state, 'open_accepts', v_person[1]::bigint,
            'rejects_elsewhere_30d', v_person[2]::bigint, 'applications_30d', v_person[3]::bigint,
            'channels_30d', v_person[4]::bigint, 'budgets', to_jsonb(v_budget)),
        p_proposed_by, p_approved_by, p_single_person, p_actor, p_request_id);
END $$;

-- Resolves a review that the caller has claimed. An acceptance that takes two persons is only proposed: p_proposal is
-- {"amount", "currency", "decision_id", "reason", "resolution": "accept"}, which its person signs (act `request`,
-- subject `review.accept:<decision_id>`).
CREATE FUNCTION gate.review_resolve(
    p_decision_id uuid, p_version bigint, p_resolution text, p_reason text, p_holder text, p_person_id text,
    p_proposal text, p_nonce text, p_proof bytea, p_actor text, p_request_id text
) RETURNS gate.reviews LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_decision gate.decisions;
    v_review gate.reviews;
BEGIN
    PERFORM gate.require_text('a reason', p_reason);
    v_decision := gate.review_subject(p_decision_id);
    v_review := gate.review_locked(p_decision_id, p_version);
    IF p_resolution IS NULL OR p_resolution NOT IN ('accept', 'reject') THEN
        RAISE EXCEPTION 'a review is resolved as accept or reject' USING ERRCODE = 'CG422';
    ELSIF v_review.state = 'proposed' THEN
        RAISE EXCEPTION 'the review waits for a second person' USING ERRCODE = 'CG409';
    ELSIF v_review.holder IS DISTINCT FROM p_holder OR v_review.held_until <= clock_timestamp() THEN
        RAISE EXCEPTION 'only who has claimed a review, and still holds it, resolves it' USING ERRCODE = 'CG409';
    ELSIF p_resolution = 'reject' THEN
        RETURN gate.review_close(v_decision, 'rejected', p_reason, NULL, NULL, NULL, false, p_actor, p_request_id);
    ELSIF NOT v_review.two_persons OR gate.is_single_person() THEN
        RETURN gate.review_accept(v_decision, p_reason, NULL, NULL, gate.is_single_person(), p_actor, p_request_id);
    END IF;
    IF p_proof IS NULL THEN
        RAISE EXCEPTION 'accepting this takes two persons: the first one signs it, too' USING ERRCODE = 'CG403';
    ELSIF p_proposal::jsonb IS DISTINCT FROM jsonb_build_object(
            'amount', v_decision.amount, 'currency', v_decision.currency, 'decision_id', p_decision_id,
            'reason', p_reason, 'resolution', 'accept') THEN
        RAISE EXCEPTION 'the proposal says something else' USING ERRCODE = 'CG422';
    END IF;
    PERFORM gate.require_signature(p_person_id, ARRAY['reviewer'], 'request', 'review.accept:' || p_decision_id, p_nonce,
                                   sha256(convert_to(p_proposal, 'UTF8')), NULL, NULL, NULL, p_proof);
    UPDATE gate.reviews
    SET state = 'proposed', proposal = p_proposal, nonce = p_nonce, proposed_by = p_person_id, holder = NULL,
        held_until = NULL, version = version + 1
    WHERE decision_id = p_decision_id RETURNING * INTO v_review;
    PERFORM gate.review_act(p_decision_id, 'proposed', p_actor, p_reason, NULL);
    PERFORM gate.audit_append(p_actor, 'review.propose', p_decision_id::text, NULL,
                              jsonb_build_object('proposed_by', p_person_id), NULL, p_request_id);
    RETURN v_review;
END $$;

-- Another person signs the same proposal: act `approve`, subject `review/<decision_id>`, its nonce.
CREATE FUNCTION gate.review_approve(
    p_decision_id uuid, p_version bigint, p_person_id text, p_digest bytea, p_proof bytea, p_actor text,
    p_request_id text
) RETURNS gate.reviews LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_decision gate.decisions := gate.review_subject(p_decision_id);
    v_review gate.reviews := gate.review_locked(p_decision_id, p_version);
BEGIN
    IF v_review.state <> 'proposed' THEN
        RAISE EXCEPTION 'nobody has proposed to accept it' USING ERRCODE = 'CG409';
    ELSIF sha256(convert_to(v_review.proposal, 'UTF8')) IS DISTINCT FROM p_digest THEN
        RAISE EXCEPTION 'something else is proposed' USING ERRCODE = 'CG412';
    ELSIF p_person_id = v_review.proposed_by THEN
        RAISE EXCEPTION 'who proposes an acceptance does not approve it' USING ERRCODE = 'CG403';
    END IF;
    PERFORM gate.require_signature(p_person_id, ARRAY['reviewer'], 'approve', 'review/' || p_decision_id, v_review.nonce,
                                   p_digest, NULL, NULL, NULL, p_proof);
    RETURN gate.review_accept(v_decision, NULL, v_review.proposed_by, p_person_id, false, p_actor, p_request_id);
END $$;

-- Puts what was proposed back into the queue: it lets nothing through and is not signed.
CREATE FUNCTION gate.review_decline(p_decision_id uuid, p_version bigint, p_reason text, p_actor text)
RETURNS gate.reviews LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_review gate.reviews := gate.review_locked(p_decision_id, p_version);
BEGIN
    PERFORM gate.require_text('a reason', p_reason);
    IF v_review.state <> 'proposed' THEN
        RAISE EXCEPTION 'nobody has proposed to accept it' USING ERRCODE = 'CG409';
    END IF;
    UPDATE gate.reviews SET state = 'open', proposal = NULL, nonce = NULL, proposed_by = NULL, version = version + 1
    WHERE decision_id = p_decision_id RETURNING * INTO v_review;
    PERFORM gate.review_act(p_decision_id, 'declined', p_actor, p_reason, NULL);
    RETURN v_review;
END $$;

-- A person's facts, with what reviewers have made of their decisions: an accept is open, and a reject stands, whoever
-- decided it.
CREATE OR REPLACE FUNCTION gate.person_facts(
    p_applicant_ref text, p_product text, p_channel_id integer, p_originator_id integer, p_application_id text,
    p_at timestamptz
) RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT concat_ws(' ',
        count(*) FILTER (WHERE r.state = 'reserved' AND d.product = p_product AND NOT own),
        count(*) FILTER (WHERE CASE WHEN d.outcome = 'reject' THEN v.state IS DISTINCT FROM 'accepted'
                                    ELSE v.state = 'rejected' END AND d.channel_id <> p_channel_id),
        count(DISTINCT (d.originator_id, d.application_id)) FILTER (WHERE NOT own) + 1,
        count(DISTINCT d.channel_id) FILTER (WHERE d.channel_id <> p_channel_id) + 1)
    FROM (SELECT e.*, e.originator_id = p_originator_id AND e.application_id = p_application_id AS own
          FROM gate.decisions e
          WHERE e.applicant_ref = p_applicant_ref AND e.decided_at > p_at - interval '30 days'
            AND e.decided_at < p_at + interval '1 day'
          LIMIT 1000) d
    LEFT JOIN gate.reservations r ON r.decision_id = d.decision_id
    LEFT JOIN gate.reviews v ON v.decision_id = d.decision_id
$$;
