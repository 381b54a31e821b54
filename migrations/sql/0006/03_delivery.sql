-- Delivery: any number of dispatchers claim what is due, try it, and settle.

-- Takes up to p_limit due deliveries, at most p_per_endpoint of one endpoint and none of those in p_busy. Of one subject
-- only the oldest that is not delivered is due, so that an endpoint hears its events in order; a redelivery is asked for
-- and waits for nothing. What is not settled within p_lease is due again.
CREATE FUNCTION gate.webhook_claim(p_limit integer, p_per_endpoint integer, p_busy uuid[], p_lease interval)
RETURNS TABLE (delivery_id bigint, attempt integer, event_id uuid, body text, endpoint_id uuid, url text,
               salts bytea[], key_ids text[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH picked AS (
        SELECT p.delivery_id, row_number() OVER (PARTITION BY e.endpoint_id ORDER BY p.next_attempt_at) AS place
        FROM gate.webhook_endpoints e
        CROSS JOIN LATERAL (
            SELECT d.delivery_id, d.next_attempt_at
            FROM gate.webhook_deliveries d
            WHERE d.endpoint_id = e.endpoint_id AND d.state = 'pending' AND d.next_attempt_at <= now()
              AND (d.redelivery OR NOT EXISTS (
                  SELECT FROM gate.webhook_deliveries earlier
                  WHERE earlier.endpoint_id = d.endpoint_id AND earlier.subject = d.subject
                    AND earlier.position < d.position AND earlier.state = 'pending' AND NOT earlier.redelivery))
            ORDER BY d.next_attempt_at, d.position
            LIMIT p_per_endpoint) p
        WHERE e.disabled_at IS NULL AND e.endpoint_id <> ALL (p_busy)
    ), due AS (
        -- Said once more for the row as it is when it is locked: another dispatcher may have had it meanwhile.
        SELECT d.delivery_id FROM gate.webhook_deliveries d JOIN picked p ON p.delivery_id = d.delivery_id
        WHERE d.state = 'pending' AND d.next_attempt_at <= now()
        ORDER BY p.place, d.next_attempt_at
        LIMIT p_limit
        FOR UPDATE OF d SKIP LOCKED
    ), claimed AS (
        UPDATE gate.webhook_deliveries d SET attempts = d.attempts + 1, next_attempt_at = now() + p_lease
        FROM due WHERE d.delivery_id = due.delivery_id
        RETURNING d.delivery_id, d.attempts, d.event_id, d.endpoint_id
    ), begun AS (
        INSERT INTO gate.webhook_attempts (delivery_id, number, started_at)
        SELECT c.delivery_id, c.attempts, now() FROM claimed c
    )
    SELECT c.delivery_id, c.attempts, c.event_id, v.body, c.endpoint_id, e.url, s.salts, s.key_ids
    FROM claimed c
    JOIN gate.events v ON v.event_id = c.event_id
    JOIN gate.webhook_endpoints e ON e.endpoint_id = c.endpoint_id
    CROSS JOIN LATERAL (
        SELECT array_agg(w.salt ORDER BY w.number DESC) AS salts, array_agg(w.key_id ORDER BY w.number DESC) AS key_ids
        FROM gate.webhook_secrets w
        WHERE w.endpoint_id = c.endpoint_id AND (w.ends_at IS NULL OR w.ends_at > now())) s
    ORDER BY c.delivery_id;
END $$;

-- Writes down what became of an attempt. A success counts also where its lease had run out; a failure only postpones
-- where no other attempt has begun. False where the delivery was over or taken by another.
CREATE FUNCTION gate.webhook_settle(
    p_delivery_id bigint, p_attempt integer, p_result text, p_status integer, p_duration_ms integer, p_excerpt text,
    p_retry interval
) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE gate.webhook_attempts
    SET result = p_result, status = p_status, duration_ms = p_duration_ms, excerpt = left(p_excerpt, 200)
    WHERE delivery_id = p_delivery_id AND number = p_attempt AND result IS NULL;
    IF p_result = 'delivered' THEN
        UPDATE gate.webhook_deliveries SET state = 'delivered', settled_at = now()
        WHERE delivery_id = p_delivery_id AND state = 'pending';
    ELSE
        UPDATE gate.webhook_deliveries SET next_attempt_at = now() + p_retry
        WHERE delivery_id = p_delivery_id AND state = 'pending' AND attempts = p_attempt;
    END IF;
    RETURN FOUND;
END $$;

-- Sends an event once more to every enabled webhook of the originator (null: of all) that takes its kind.
CREATE FUNCTION gate.webhook_redeliver(p_event_id uuid, p_originator integer, p_actor text, p_request_id text)
RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_event gate.events;
    v_count integer;
BEGIN
    SELECT * INTO v_event FROM gate.events WHERE event_id = p_event_id;
    IF NOT FOUND OR NOT (p_originator IS NULL OR v_event.originator_id IS NULL
                         OR v_event.originator_id = p_originator) THEN
        RAISE EXCEPTION 'there is no such event' USING ERRCODE = 'CG404';
    END IF;
    INSERT INTO gate.webhook_deliveries AS d (endpoint_id, event_id, subject, position, redelivery)
    SELECT e.endpoint_id, v_event.event_id, v_event.subject, v_event.position, true
    FROM gate.webhook_endpoints e
    WHERE e.disabled_at IS NULL AND (p_originator IS NULL OR e.originator_id = p_originator)
      AND (v_event.originator_id IS NULL OR e.originator_id = v_event.originator_id)
      AND (e.kinds IS NULL OR v_event.kind = ANY (e.kinds))
    ORDER BY e.endpoint_id
    ON CONFLICT (event_id, endpoint_id) DO UPDATE
    SET redelivery = d.redelivery OR d.state <> 'pending', state = 'pending', settled_at = NULL,
        due_since = CASE WHEN d.state = 'pending' THEN d.due_since ELSE now() END, next_attempt_at = now();
    GET DIAGNOSTICS v_count = ROW_COUNT;
    IF v_count = 0 THEN
        RAISE EXCEPTION 'no enabled webhook takes this event' USING ERRCODE = 'CG409';
    END IF;
    PERFORM gate.audit_append(p_actor, 'webhook.redeliver', p_event_id::text, NULL,
                              jsonb_build_object('deliveries', v_count), NULL, p_request_id);
    RETURN v_count;
END $$;

-- For good: nothing more is sent, and what was still to be sent is given up.
CREATE FUNCTION gate.webhook_disable(p_endpoint_id uuid, p_actor text, p_reason text, p_request_id text)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_endpoint gate.webhook_endpoints := gate.webhook_enabled(p_endpoint_id);
    v_count integer;
BEGIN
    UPDATE gate.webhook_endpoints SET disabled_at = now(), disabled_by = p_actor WHERE endpoint_id = p_endpoint_id;
    UPDATE gate.webhook_deliveries SET state = 'cancelled', settled_at = now()
    WHERE endpoint_id = p_endpoint_id AND state = 'pending';
    GET DIAGNOSTICS v_count = ROW_COUNT;
    PERFORM gate.audit_append(p_actor, 'webhook.disable', p_endpoint_id::text, NULL,
                              jsonb_build_object('given_up', v_count), p_reason, p_request_id);
END $$;
