ALTER FUNCTION gate.posted_units(text, bigint, bigint, bigint) SET search_path = pg_catalog, pg_temp;
DROP VIEW gate.loan_months, gate.loans, gate.feeds, gate.current_channel_costs;
DROP FUNCTION gate.outcomes_deidentify, gate.person_forget, gate.book_merge, gate.cost_record, gate.feed_state, gate.outcomes_wake, gate.outcomes_merge, gate.outcomes_post,
    gate.outcomes_book, gate.outcomes_refold, gate.outcome_binding, gate.reservations_settle, gate.input_segment,
    gate.outcomes_fold, gate.outcome_digest;
DROP TABLE gate.book_staging, gate.book_months, gate.book_loans, gate.channel_costs, gate.feed_statements, gate.reservation_adjustments, gate.outcome_staging,
    gate.outcome_events, gate.application_outcomes;
DROP TYPE gate.outcome_row;
