DROP VIEW gate.feeds, gate.current_channel_costs;
DROP FUNCTION gate.cost_record, gate.feed_state, gate.outcomes_wake, gate.outcomes_merge, gate.outcomes_post,
    gate.outcomes_book, gate.outcomes_refold, gate.reservations_settle, gate.input_segment,
    gate.outcomes_fold, gate.outcome_digest;
DROP TABLE gate.channel_costs, gate.feed_statements, gate.reservation_adjustments, gate.outcome_staging,
    gate.outcome_events, gate.application_outcomes;
DROP TYPE gate.outcome_row;
