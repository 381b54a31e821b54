-- No budgets and no reservations: persons are not looked at any more.
DROP TRIGGER channels_on_probation ON gate.channels;
DROP TRIGGER decisions_are_held_back ON gate.decisions;
DROP TRIGGER decisions_are_erased_with_what_is_held ON gate.decisions;
DROP TRIGGER decision_keys_take_what_is_held ON gate.decision_keys;
DELETE FROM gate.change_kinds WHERE kind IN ('budget.set', 'budget.end');
DROP FUNCTION gate.held_lapse, gate.held_resolve, gate.held_superseded, gate.held_claim, gate.held_forget,
    gate.held_erase, gate.hold_back, gate.facts_now, gate.reservation_make, gate.application_lock, gate.budget_rooms,
    gate.journal_flush(json, bytea, integer[], bigint[], bigint[]), gate.flush_budgets, gate.facts_document,
    gate.application_changes, gate.input_income, gate.person_facts, gate.probation_budget, gate.apply_budget,
    gate.apply_budget_end, gate.budget_end, gate.budget_set, gate.budget_close, gate.budget_put, gate.budget_take_in,
    gate.channel_kill, gate.channel_void_reservations, gate.loan_balance_put, gate.reservation_fund,
    gate.reservations_tell, gate.budget_covers, gate.posted_units, gate.budget_units, gate.budget_caps_refresh,
    gate.reservation_post, gate.reservation_void, gate.reservations_expire, gate.reservations_release,
    gate.budget_periods_move, gate.budget_period_at, gate.budget_periods_ensure;
DROP TABLE gate.held_queue, gate.overrun_units, gate.overruns, gate.loan_balances, gate.reservation_units, gate.budget_periods, gate.budgets, gate.reservations, gate.reservation_terms;
DROP FUNCTION gate.resolve_once, gate.close_once;
ALTER TABLE gate.state DROP COLUMN budget_revision;
