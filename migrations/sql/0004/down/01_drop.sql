-- No challenger, and no report of one.
DROP FUNCTION gate.shadow_add, gate.challenger_clear, gate.challenger_set;
DROP TABLE gate.shadow_losses, gate.shadow_reasons, gate.shadow_hours, gate.challengers;
DROP FUNCTION gate.only_clear_challenger;
