-- What one person may do alone where governance is on: only what makes the gate stricter. The functions that did the
-- work so far go on doing it under another name that no login may call; what has their name now asks first.

ALTER FUNCTION gate.policy_publish(text, text, bytea, integer, text, text, text) RENAME TO policy_put_active;
ALTER FUNCTION gate.channel_register(text, text, text, text, text, text, text[], timestamptz, timestamptz, text, text, text)
    RENAME TO channel_put;
ALTER FUNCTION gate.channel_set_state(text, text, bigint, text, text, text) RENAME TO channel_state_put;
ALTER FUNCTION gate.tier_assign(text, text, text, text, timestamptz, timestamptz, text, text, text, text)
    RENAME TO tier_put;
REVOKE ALL ON FUNCTION gate.policy_put_active, gate.channel_put, gate.channel_state_put, gate.tier_put
    FROM {{governance}};

-- Takes the fence for itself, so that what is looked at next stays as it is until the change has been made.
CREATE FUNCTION gate.fence() RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp AS
    $$ SELECT pg_advisory_xact_lock(4840311976251041) $$;

-- The one order of locks: fence, rows of drafts, break-glass and change requests, the head of the audit log. What
-- activates a policy also closes the draft and the break-glass before it, so it locks those rows first.
CREATE FUNCTION gate.fence_policies() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM gate.fence();
    PERFORM FROM gate.policy_drafts WHERE state = 'active' FOR UPDATE;
    PERFORM FROM gate.break_glass WHERE state = 'open' FOR UPDATE;
END $$;

CREATE FUNCTION gate.policy_publish(
    p_name text, p_document text, p_digest bytea, p_expected_active integer, p_comment text, p_actor text,
    p_request_id text
) RETURNS TABLE (version integer, revision bigint, activated_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM gate.fence_policies();
    IF NOT gate.is_single_person() THEN
        RAISE EXCEPTION 'one person cannot publish: it takes a draft and the approval of a second person'
            USING ERRCODE = 'CG403';
    END IF;
    RETURN QUERY SELECT * FROM gate.policy_make_active(p_name, p_document, p_digest, p_expected_active, p_comment,
                                                       p_actor, p_request_id);
END $$;

-- The one way to a new active version. What was active before is retired, and an open break-glass is over.
CREATE FUNCTION gate.policy_make_active(
    p_name text, p_document text, p_digest bytea, p_expected_active integer, p_comment text, p_actor text,
    p_request_id text
) RETURNS TABLE (version integer, revision bigint, activated_at timestamptz)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT * FROM gate.policy_put_active(p_name, p_document, p_digest, p_expected_active, p_comment,
                                                      p_actor, p_request_id);
    UPDATE gate.policy_drafts SET state = 'retired', revision = revision + 1, updated_at = clock_timestamp()
    WHERE state = 'active';
    UPDATE gate.break_glass SET state = 'superseded', ended_at = clock_timestamp(), ended_by = p_actor
    WHERE state = 'open';
END $$;

CREATE FUNCTION gate.channel_register(
    p_code text, p_name text, p_kind text, p_state text, p_owner text, p_agreement_id text, p_services text[],
    p_valid_from timestamptz, p_valid_to timestamptz, p_actor text, p_reason text, p_request_id text
) RETURNS gate.channels LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM gate.fence();
    IF p_state <> 'proposed' AND NOT gate.is_single_person() THEN
        RAISE EXCEPTION 'a channel is registered as proposed: moving it up takes a change request'
            USING ERRCODE = 'CG403';
    END IF;
    RETURN gate.channel_put(p_code, p_name, p_kind, p_state, p_owner, p_agreement_id, p_services, p_valid_from,
                            p_valid_to, p_actor, p_reason, p_request_id);
END $$;

CREATE FUNCTION gate.channel_set_state(
    p_code text, p_state text, p_expected_revision bigint, p_actor text, p_reason text, p_request_id text
) RETURNS gate.channels LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_channel gate.channels;
BEGIN
    PERFORM gate.fence();
    v_channel := gate.channel_by_code(p_code);
    IF (v_channel.state, p_state) IN (('proposed', 'probation'), ('probation', 'active'),
                                      ('suspended', 'probation'), ('suspended', 'active'))
       AND NOT gate.is_single_person()
    THEN
        RAISE EXCEPTION 'moving a channel up takes a change request and the approval of a second person'
            USING ERRCODE = 'CG403';
    END IF;
    RETURN gate.channel_state_put(p_code, p_state, p_expected_revision, p_actor, p_reason, p_request_id);
END $$;

-- Rank of a tier in the active policy; 1 is the most trusted. Null where it has no such tier.
CREATE FUNCTION gate.tier_rank(p_tier text) RETURNS integer
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT (t ->> 'rank')::integer
    FROM gate.state s JOIN gate.policies p ON p.version = s.policy_version,
         jsonb_array_elements(p.document::jsonb -> 'tiers') t
    WHERE t ->> 'code' = p_tier
$$;

-- Which tier holds for a product and jurisdiction, as `tier_at`. p_lasting: as if every override were over already, so
-- that what was before it goes on, or a wider scope.
CREATE FUNCTION gate.tier_held(
    p_code text, p_product text, p_jurisdiction text, p_at timestamptz, p_lasting boolean
) RETURNS TABLE (tier text, product text, jurisdiction text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT CASE WHEN p_lasting THEN coalesce(o.tier_before, a.tier) ELSE a.tier END, s.product, s.jurisdiction
    FROM gate.channels c
    JOIN gate.scopes s USING (channel_id)
    JOIN gate.tier_assignments a USING (scope_id)
    LEFT JOIN gate.tier_overrides o ON o.assignment_id = a.assignment_id AND o.ended_at IS NULL
    WHERE c.code = p_code AND a.valid @> p_at
      AND (s.product IS NULL OR s.product = p_product)
      AND (s.jurisdiction IS NULL OR s.jurisdiction = p_jurisdiction)
      AND NOT (p_lasting AND o.assignment_id IS NOT NULL AND o.tier_before IS NULL)
    ORDER BY s.product IS NOT NULL DESC, s.jurisdiction IS NOT NULL DESC
    LIMIT 1;
END $$;

-- Whether some decision would have a more trusted tier once the scope has this one from p_at on. It is asked for the
-- scope itself and for what it shares with every other scope of the channel: (product, any) takes over from (any,
-- jurisdiction); for p_at and each later moment that brings another assignment; and with overrides as they are and once
-- they are over, else one person could make lasting what two have allowed for a time. What cannot be compared is up.
CREATE FUNCTION gate.tier_moves_up(
    p_code text, p_product text, p_jurisdiction text, p_tier text, p_at timestamptz
) RETURNS boolean LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_rank integer := gate.tier_rank(p_tier);
    v_default text;
    v_asked record;
    v_now record;
    v_before integer;
BEGIN
    SELECT p.document::jsonb ->> 'default_tier' INTO v_default
    FROM gate.state s JOIN gate.policies p ON p.version = s.policy_version;
    FOR v_asked IN
        SELECT shared.*, moment.*, lasting.*
        FROM (
            SELECT p_product AS product, p_jurisdiction AS jurisdiction
            UNION
            SELECT coalesce(p_product, s.product), coalesce(p_jurisdiction, s.jurisdiction)
            FROM gate.scopes s JOIN gate.channels c USING (channel_id)
            WHERE c.code = p_code AND coalesce(s.product = p_product, true)
              AND coalesce(s.jurisdiction = p_jurisdiction, true)
        ) shared,
        (
            SELECT p_at AS at
            UNION
            SELECT edge FROM gate.channels c JOIN gate.scopes s USING (channel_id)
                JOIN gate.tier_assignments a USING (scope_id), LATERAL (VALUES (lower(a.valid)), (upper(a.valid))) e (edge)
            WHERE c.code = p_code AND edge > p_at
        ) moment,
        (VALUES (false), (true)) lasting (lasting)
    LOOP
        SELECT * INTO v_now
        FROM gate.tier_held(p_code, v_asked.product, v_asked.jurisdiction, v_asked.at, v_asked.lasting);
        CONTINUE WHEN FOUND AND (v_now.product IS NOT NULL, v_now.jurisdiction IS NOT NULL)
                                > (p_product IS NOT NULL, p_jurisdiction IS NOT NULL);
        v_before := gate.tier_rank(coalesce(v_now.tier, v_default));
        IF v_rank IS NULL OR v_before IS NULL OR v_rank < v_before THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
END $$;

-- An assignment with an end moves up at its end, so that it takes a second person in any case.
CREATE FUNCTION gate.tier_assign(
    p_code text, p_product text, p_jurisdiction text, p_tier text, p_from timestamptz, p_to timestamptz,
    p_cause text, p_reason text, p_actor text, p_request_id text
) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM gate.fence();
    IF NOT gate.is_single_person()
       AND (p_to IS NOT NULL
            OR gate.tier_moves_up(p_code, p_product, p_jurisdiction, p_tier, greatest(p_from, clock_timestamp())))
    THEN
        RAISE EXCEPTION 'a better tier, or one with an end, takes a change request and the approval of a second person'
            USING ERRCODE = 'CG403';
    END IF;
    RETURN gate.tier_put(p_code, p_product, p_jurisdiction, p_tier, p_from, p_to, p_cause, p_reason, p_actor,
                         p_request_id);
END $$;
