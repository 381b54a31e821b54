-- Back to the foundation. What was erased stays erased: a quarantined input that is gone cannot come back.
DROP FUNCTION gate.quarantine_sweep, gate.person_erase, gate.input_applicant_ref, gate.month_sweep, gate.month_drop, gate.lock_for_drop,
    gate.keys_expire, gate.retention_preview, gate.require_due, gate.retention_due, gate.require_period,
    gate.journal_content_faults, gate.journal_digest_make, gate.journal_barrier, gate.journal_days_due,
    gate.day_digest, gate.journal_hours, gate.hold_release, gate.hold_place, gate.require_text, gate.custody_lock;
DROP VIEW gate.held_decisions, gate.decision_custody;
DROP FUNCTION gate.retention_clock_start, gate.amount_band;
DROP TABLE gate.decision_facts, gate.dropped_months, gate.channel_days, gate.journal_digests, gate.legal_holds;
DROP FUNCTION gate.only_release_hold;
DROP INDEX gate.decisions_decided_at;
DELETE FROM gate.quarantine WHERE input IS NULL;
ALTER TABLE gate.quarantine DROP COLUMN erased_at, ALTER COLUMN input SET NOT NULL;
