REVOKE ALL ON ALL FUNCTIONS IN SCHEMA gate FROM PUBLIC;
GRANT SELECT ON gate.reservation_terms, gate.reservations, gate.reservation_units, gate.budgets, gate.budget_periods,
    gate.overruns, gate.overrun_units, gate.loan_balances, gate.held_queue
    TO {{serving}}, {{governance}};
GRANT EXECUTE ON FUNCTION gate.journal_flush(json, bytea, integer[], bigint[], bigint[]),
    gate.reservations_expire(integer), gate.reservation_void(uuid, text), gate.reservation_post(uuid, bigint),
    gate.reservation_fund(uuid, bigint, timestamptz), gate.loan_balance_put(uuid, bigint, timestamptz),
    gate.held_claim(integer, interval), gate.held_lapse(integer),
    gate.held_resolve(uuid, timestamptz, integer, bigint, bigint, text, text, text[], text, boolean, bigint[], bigint[],
                      bytea, bytea),
    gate.budget_periods_ensure(bigint), gate.budget_rooms(timestamptz) TO {{serving}};
GRANT EXECUTE ON FUNCTION gate.channel_void_reservations(text, text, text, text),
    gate.budget_set(text, text, text, text, text, text, text, bigint, integer, jsonb, text, text, text, text, integer, bigint,
                    bigint),
    gate.channel_kill(text, text, bigint, text, text, text),
    gate.budget_end(bigint, text, text, text) TO {{governance}};
