REVOKE ALL ON ALL FUNCTIONS IN SCHEMA gate FROM PUBLIC;
GRANT SELECT ON gate.application_outcomes, gate.outcome_events, gate.reservation_adjustments, gate.feed_statements,
    gate.feeds, gate.channel_costs, gate.current_channel_costs, gate.loans, gate.loan_months
    TO {{serving}}, {{governance}};
GRANT SELECT ON gate.book_loans, gate.book_months TO {{governance}};
GRANT EXECUTE ON FUNCTION gate.person_forget(text, text, integer, integer, text, text, text),
    gate.outcomes_deidentify(integer, text, text) TO {{governance}};
GRANT EXECUTE ON FUNCTION gate.outcomes_post(integer, jsonb, text), gate.outcomes_wake(bigint, integer),
    gate.feed_state(integer, text, text[], date, text),
    gate.cost_record(text, text, date, date, text, text, integer, bigint, text) TO {{serving}};
