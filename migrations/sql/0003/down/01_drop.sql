-- One person does everything again. Drafts, requests and who signed them are gone; the audit log keeps what it says.
DROP FUNCTION gate.governance_tick, gate.tier_override_end, gate.apply_tier, gate.apply_channel_state, gate.change_close,
    gate.change_approve, gate.change_locked, gate.change_request, gate.change_summary, gate.break_glass_end,
    gate.break_glass_confirm, gate.break_glass_locked, gate.break_glass_open, gate.report_put, gate.draft_close,
    gate.draft_approve, gate.draft_activate, gate.draft_submit, gate.draft_amend, gate.draft_create, gate.draft_summary,
    gate.draft_locked, gate.require_document, gate.tier_assign, gate.tier_moves_up, gate.tier_held, gate.tier_rank,
    gate.channel_set_state, gate.channel_register, gate.policy_make_active, gate.policy_publish, gate.fence_policies,
    gate.fence, gate.require_signature, gate.signed_message, gate.instant_text, gate.is_single_person,
    gate.governance_set, gate.person_unlock, gate.person_amend, gate.person_rotate, gate.person_add, gate.failures_of,
    gate.hmac_sha256;
DROP TABLE gate.tier_overrides, gate.change_requests, gate.change_kinds, gate.break_glass, gate.whatif_reports,
    gate.policy_drafts, gate.signatures, gate.person_secrets, gate.persons, gate.governance;
DROP FUNCTION gate.only_close_request, gate.only_end_break_glass, gate.only_next_state;

ALTER FUNCTION gate.policy_put_active RENAME TO policy_publish;
ALTER FUNCTION gate.channel_put RENAME TO channel_register;
ALTER FUNCTION gate.channel_state_put RENAME TO channel_set_state;
ALTER FUNCTION gate.tier_put RENAME TO tier_assign;
GRANT EXECUTE ON FUNCTION gate.policy_publish, gate.channel_register, gate.channel_set_state, gate.tier_assign
    TO {{governance}};
