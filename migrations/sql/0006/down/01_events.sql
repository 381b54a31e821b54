-- Nobody is told anything, and what was told is forgotten.
DROP TRIGGER channel_state_changes_are_told ON gate.channel_state_changes;
DROP FUNCTION gate.tell_channel_state, gate.webhook_disable, gate.webhook_redeliver, gate.webhook_settle,
    gate.webhook_claim, gate.webhook_rotate, gate.webhook_create, gate.event_put, gate.utc_text;
DROP FUNCTION gate.webhook_enabled;
DROP TABLE gate.webhook_attempts, gate.webhook_deliveries, gate.events, gate.webhook_secrets, gate.webhook_endpoints,
    gate.event_kinds;
