REVOKE ALL ON ALL FUNCTIONS IN SCHEMA gate FROM PUBLIC;
GRANT SELECT ON gate.event_kinds, gate.events, gate.webhook_endpoints, gate.webhook_deliveries, gate.webhook_attempts
    TO {{serving}}, {{governance}};
GRANT SELECT (endpoint_id, number, key_id, created_at, ends_at) ON gate.webhook_secrets TO {{serving}}, {{governance}};
GRANT EXECUTE ON FUNCTION gate.webhook_claim(integer, integer, uuid[], interval),
    gate.webhook_settle(bigint, integer, text, integer, integer, text, interval) TO {{serving}};
GRANT EXECUTE ON FUNCTION gate.webhook_create(uuid, text, text, text[], text, bytea, text, text, text),
    gate.webhook_rotate(uuid, bytea, text, interval, text, text, text), gate.webhook_disable(uuid, text, text, text),
    gate.webhook_redeliver(uuid, integer, text, text) TO {{governance}};
