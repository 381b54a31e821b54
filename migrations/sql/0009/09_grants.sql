REVOKE ALL ON ALL FUNCTIONS IN SCHEMA gate FROM PUBLIC;
GRANT SELECT ON gate.reviews, gate.review_actions, gate.review_intake TO {{serving}}, {{governance}};
-- Serving only fills and tidies the queue by what the log says; who decides goes through governance.
GRANT EXECUTE ON FUNCTION gate.reviews_gather(boolean), gate.reviews_supersede() TO {{serving}}, {{governance}};
GRANT EXECUTE ON FUNCTION gate.reviews_forget(), gate.review_claim_next(text, interval, text), gate.review_claim(uuid, text, interval, text),
    gate.review_release(uuid, text, text), gate.review_prioritise(uuid, bigint, integer, text, text),
    gate.review_contest(uuid, integer, text, text, text),
    gate.review_resolve(uuid, bigint, text, text, text, text, text, text, bytea, text, text),
    gate.review_approve(uuid, bigint, text, bytea, bytea, text, text), gate.review_decline(uuid, bigint, text, text)
    TO {{governance}};
