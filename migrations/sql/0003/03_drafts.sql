-- Drafts of policies: draft -> in_review -> approved -> active -> retired, or rejected, or withdrawn.

CREATE TABLE gate.policy_drafts (
    draft_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    state text NOT NULL DEFAULT 'draft' CHECK (
        state IN ('draft', 'in_review', 'approved', 'active', 'retired', 'rejected', 'withdrawn')),
    name text NOT NULL,
    document text NOT NULL,
    digest bytea NOT NULL CHECK (octet_length(digest) = 32),
    repeats_version integer REFERENCES gate.policies,
    based_on integer REFERENCES gate.policies,
    comment text,
    effective_from timestamptz,
    contributors text[] NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    revision integer NOT NULL DEFAULT 1,
    submitted_by text REFERENCES gate.persons,
    submitted_at timestamptz,
    nonce text,
    warnings text[],
    findings text[],
    approved_by text REFERENCES gate.persons,
    approved_at timestamptz,
    acknowledged_warnings text[],
    report_digest bytea,
    approval_comment text,
    closed_by text,
    closed_at timestamptz,
    closing_note text,
    version integer REFERENCES gate.policies,
    activated_at timestamptz,
    CONSTRAINT policy_drafts_two_persons CHECK (approved_by <> submitted_by AND approved_by <> ALL (contributors)),
    CONSTRAINT policy_drafts_signed CHECK (
        state IN ('draft', 'withdrawn')
        OR num_nonnulls(submitted_by, submitted_at, nonce, warnings) = 4 AND (
            state IN ('in_review', 'rejected')
            OR num_nonnulls(approved_by, approved_at, acknowledged_warnings) = 3)),
    CONSTRAINT policy_drafts_activated CHECK ((state IN ('active', 'retired')) = (version IS NOT NULL))
);
CREATE UNIQUE INDEX policy_drafts_one_is_active ON gate.policy_drafts (state) WHERE state = 'active';
CREATE INDEX policy_drafts_due ON gate.policy_drafts (effective_from) WHERE state = 'approved';
CREATE INDEX policy_drafts_version ON gate.policy_drafts (version) WHERE version IS NOT NULL;

-- The order of states, and that nothing which was signed changes afterwards, hold for the owner too.
CREATE FUNCTION gate.only_next_state() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'a draft stays' USING ERRCODE = 'CG403';
    ELSIF TG_OP = 'INSERT' THEN
        IF NEW.state <> 'draft' THEN
            RAISE EXCEPTION 'a draft begins as one' USING ERRCODE = 'CG403';
        END IF;
        RETURN NEW;
    ELSIF NOT (OLD.state, NEW.state) IN (
        ('draft', 'draft'), ('draft', 'in_review'), ('draft', 'withdrawn'),
        ('in_review', 'approved'), ('in_review', 'rejected'), ('in_review', 'withdrawn'),
        ('approved', 'active'), ('approved', 'withdrawn'), ('active', 'retired'))
    THEN
        RAISE EXCEPTION 'a draft that is % does not become %', OLD.state, NEW.state USING ERRCODE = 'CG409';
    ELSIF OLD.state <> 'draft'
          AND (OLD.name, OLD.document, OLD.digest, OLD.repeats_version, OLD.based_on, OLD.effective_from, OLD.submitted_by,
               OLD.contributors, OLD.nonce, OLD.warnings, OLD.findings)
              IS DISTINCT FROM
              (NEW.name, NEW.document, NEW.digest, NEW.repeats_version, NEW.based_on, NEW.effective_from, NEW.submitted_by,
               NEW.contributors, NEW.nonce, NEW.warnings, NEW.findings)
          OR OLD.approved_by IS NOT NULL
          AND (OLD.approved_by, OLD.approved_at, OLD.acknowledged_warnings, OLD.report_digest)
              IS DISTINCT FROM (NEW.approved_by, NEW.approved_at, NEW.acknowledged_warnings, NEW.report_digest)
    THEN
        RAISE EXCEPTION 'what was signed does not change' USING ERRCODE = 'CG403';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER policy_drafts_go_in_order BEFORE INSERT OR UPDATE OR DELETE ON gate.policy_drafts
    FOR EACH ROW EXECUTE FUNCTION gate.only_next_state();

-- What-ifs that were run on a draft. The text is stored as it was hashed.
CREATE TABLE gate.whatif_reports (
    report_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    draft_id integer NOT NULL REFERENCES gate.policy_drafts,
    document_digest bytea NOT NULL CHECK (octet_length(document_digest) = 32),
    report_digest bytea NOT NULL CHECK (octet_length(report_digest) = 32),
    report text NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT whatif_reports_once UNIQUE (draft_id, document_digest, report_digest)
);
CREATE TRIGGER whatif_reports_are_immutable BEFORE UPDATE OR DELETE ON gate.whatif_reports
    FOR EACH ROW EXECUTE FUNCTION gate.refuse_change();

CREATE FUNCTION gate.require_document(p_name text, p_document text, p_digest bytea) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF sha256(convert_to(p_document, 'UTF8')) IS DISTINCT FROM p_digest THEN
        RAISE EXCEPTION 'the digest is not that of the document' USING ERRCODE = 'CG422';
    ELSIF p_document::jsonb ->> 'name' IS DISTINCT FROM p_name THEN
        RAISE EXCEPTION 'the name is not that of the document' USING ERRCODE = 'CG422';
    END IF;
END $$;

CREATE FUNCTION gate.draft_locked(p_draft_id integer) RETURNS gate.policy_drafts
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_draft gate.policy_drafts;
BEGIN
    SELECT * INTO v_draft FROM gate.policy_drafts WHERE draft_id = p_draft_id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no such draft' USING ERRCODE = 'CG404';
    END IF;
    RETURN v_draft;
END $$;

-- What the audit log keeps of a draft: the document is named by its digest.
CREATE FUNCTION gate.draft_summary(p_draft gate.policy_drafts) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_strip_nulls(to_jsonb(p_draft) - ARRAY['document', 'digest', 'report_digest']) || jsonb_strip_nulls(
        jsonb_build_object('digest', encode(p_draft.digest, 'hex'),
                           'report_digest', encode(p_draft.report_digest, 'hex')))
$$;

-- p_contributor is who the service says is writing. It can only keep a person from approving, never let one.
CREATE FUNCTION gate.draft_create(
    p_name text, p_document text, p_digest bytea, p_repeats_version integer, p_comment text, p_effective_from timestamptz,
    p_contributor text, p_actor text, p_request_id text
) RETURNS gate.policy_drafts LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_draft gate.policy_drafts;
BEGIN
    PERFORM gate.require_document(p_name, p_document, p_digest);
    IF p_repeats_version IS NOT NULL
       AND NOT EXISTS (SELECT FROM gate.policies WHERE version = p_repeats_version AND digest = p_digest)
    THEN
        RAISE EXCEPTION 'the document is not that of the version which it should repeat' USING ERRCODE = 'CG422';
    END IF;
    INSERT INTO gate.policy_drafts (name, document, digest, repeats_version, based_on, comment, effective_from,
                                    contributors, created_by, created_at, updated_at)
    VALUES (p_name, p_document, p_digest, p_repeats_version, (SELECT policy_version FROM gate.state), p_comment,
            p_effective_from, array_remove(ARRAY[p_contributor], NULL), p_actor, clock_timestamp(), clock_timestamp())
    RETURNING * INTO v_draft;
    PERFORM gate.audit_append(p_actor, 'draft.create', v_draft.draft_id::text, NULL, gate.draft_summary(v_draft),
                              p_comment, p_request_id);
    RETURN v_draft;
END $$;

-- Another document, based on what is active now.
CREATE FUNCTION gate.draft_amend(
    p_draft_id integer, p_expected_revision integer, p_name text, p_document text, p_digest bytea, p_comment text,
    p_effective_from timestamptz, p_contributor text, p_actor text, p_request_id text
) RETURNS gate.policy_drafts LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_before gate.policy_drafts := gate.draft_locked(p_draft_id);
    v_after gate.policy_drafts;
BEGIN
    IF v_before.revision <> p_expected_revision THEN
        RAISE EXCEPTION 'the draft has changed since it was read' USING ERRCODE = 'CG412';
    ELSIF v_before.state <> 'draft' THEN
        RAISE EXCEPTION 'the draft is % and changes no more', v_before.state USING ERRCODE = 'CG409';
    END IF;
    PERFORM gate.require_document(p_name, p_document, p_digest);
    UPDATE gate.policy_drafts
    SET name = p_name, document = p_document, digest = p_digest, comment = p_comment, effective_from = p_effective_from,
        repeats_version = CASE WHEN digest = p_digest THEN repeats_version END,
        based_on = (SELECT policy_version FROM gate.state),
        contributors = CASE WHEN p_contributor IS NULL OR p_contributor = ANY (contributors) THEN contributors
                            ELSE contributors || p_contributor END,
        revision = revision + 1, updated_at = clock_timestamp()
    WHERE draft_id = p_draft_id RETURNING * INTO v_after;
    PERFORM gate.audit_append(p_actor, 'draft.amend', p_draft_id::text, gate.draft_summary(v_before),
                              gate.draft_summary(v_after), p_comment, p_request_id);
    RETURN v_after;
END $$;

-- The author signs the document, and from when on it should hold: `submit`, `policy`, a nonce of the author's own.
-- p_warnings are the codes of what lint found, which the approver has to acknowledge; p_findings says each in words.
CREATE FUNCTION gate.draft_submit(
    p_draft_id integer, p_person_id text, p_nonce text, p_digest bytea, p_warnings text[], p_findings text[],
    p_proof bytea, p_actor text, p_request_id text
) RETURNS gate.policy_drafts LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_before gate.policy_drafts := gate.draft_locked(p_draft_id);
    v_after gate.policy_drafts;
BEGIN
    IF v_before.state <> 'draft' THEN
        RAISE EXCEPTION 'the draft is % already', v_before.state USING ERRCODE = 'CG409';
    ELSIF v_before.digest IS DISTINCT FROM p_digest THEN
        RAISE EXCEPTION 'the document of the draft is another one' USING ERRCODE = 'CG412';
    ELSIF EXISTS (SELECT FROM unnest(p_warnings) w WHERE w IS NULL OR w !~ '^[A-Za-z0-9-]{1,64}$') THEN
        RAISE EXCEPTION 'a warning is named by its code' USING ERRCODE = 'CG422';
    END IF;
    PERFORM gate.require_signature(p_person_id, ARRAY['policy-author'], 'submit', 'policy', p_nonce, p_digest, NULL,
                                   v_before.effective_from, NULL, p_proof);
    UPDATE gate.policy_drafts
    SET state = 'in_review', submitted_by = p_person_id, submitted_at = clock_timestamp(), nonce = p_nonce,
        warnings = ARRAY(SELECT DISTINCT w FROM unnest(p_warnings) w ORDER BY w), findings = p_findings,
        revision = revision + 1, updated_at = clock_timestamp()
    WHERE draft_id = p_draft_id RETURNING * INTO v_after;
    PERFORM gate.audit_append(p_actor, 'draft.submit', p_draft_id::text, gate.draft_summary(v_before),
                              gate.draft_summary(v_after), v_after.comment, p_request_id);
    RETURN v_after;
END $$;

-- Puts an approved draft into effect, in the transaction that it is called in. What it is based on must still be in
-- effect (by digest): it would silently undo what came in between.
CREATE FUNCTION gate.draft_activate(p_draft_id integer, p_actor text, p_request_id text) RETURNS gate.policy_drafts
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_draft gate.policy_drafts;
    v_active record;
    v_made record;
BEGIN
    PERFORM gate.fence_policies();
    v_draft := gate.draft_locked(p_draft_id);
    SELECT p.version, p.digest INTO v_active
    FROM gate.state s LEFT JOIN gate.policies p ON p.version = s.policy_version;
    IF v_active.digest IS DISTINCT FROM (SELECT digest FROM gate.policies WHERE version = v_draft.based_on) THEN
        RAISE EXCEPTION 'another policy is active than the one that the draft was made from' USING ERRCODE = 'CG412';
    END IF;
    SELECT * INTO STRICT v_made FROM gate.policy_make_active(
        v_draft.name, v_draft.document, v_draft.digest, v_active.version, v_draft.comment, p_actor, p_request_id);
    UPDATE gate.policy_drafts
    SET state = 'active', version = v_made.version, activated_at = v_made.activated_at, revision = revision + 1,
        updated_at = clock_timestamp()
    WHERE draft_id = p_draft_id RETURNING * INTO v_draft;
    PERFORM gate.audit_append(p_actor, 'draft.activate', p_draft_id::text, jsonb_build_object('state', 'approved'),
                              gate.draft_summary(v_draft), v_draft.comment, p_request_id);
    RETURN v_draft;
END $$;

-- The second person signs the document of this draft, a report on it, from when on it holds, and the warnings:
-- `approve`, `draft/<id>`, the nonce of the submission. Activates at once what has no later time.
CREATE FUNCTION gate.draft_approve(
    p_draft_id integer, p_person_id text, p_digest bytea, p_report_digest bytea, p_acknowledged text[], p_comment text,
    p_proof bytea, p_actor text, p_request_id text
) RETURNS gate.policy_drafts LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_before gate.policy_drafts;
    v_after gate.policy_drafts;
    v_rules gate.governance;
BEGIN
    PERFORM gate.fence_policies();
    v_before := gate.draft_locked(p_draft_id);
    SELECT * INTO STRICT v_rules FROM gate.governance;
    IF v_before.state <> 'in_review' THEN
        RAISE EXCEPTION 'the draft is %, not in review', v_before.state USING ERRCODE = 'CG409';
    ELSIF v_before.digest IS DISTINCT FROM p_digest THEN
        RAISE EXCEPTION 'the document of the draft is another one' USING ERRCODE = 'CG412';
    ELSIF p_person_id = v_before.submitted_by OR p_person_id = ANY (v_before.contributors) THEN
        RAISE EXCEPTION 'who wrote a draft does not approve it' USING ERRCODE = 'CG403';
    ELSIF p_report_digest IS NULL AND v_rules.report_required AND NOT v_rules.single_person THEN
        RAISE EXCEPTION 'an approval names a what-if report on the draft' USING ERRCODE = 'CG422';
    ELSIF p_report_digest IS NOT NULL AND NOT EXISTS (
        SELECT FROM gate.whatif_reports r
        WHERE r.draft_id = p_draft_id AND r.document_digest = p_digest AND r.report_digest = p_report_digest)
    THEN
        RAISE EXCEPTION 'there is no such report on this draft' USING ERRCODE = 'CG422';
    ELSIF NOT coalesce(p_acknowledged, '{}') @> v_before.warnings
          OR NOT v_before.warnings @> coalesce(p_acknowledged, '{}') THEN
        RAISE EXCEPTION 'an approval acknowledges every warning of the draft, and no other' USING ERRCODE = 'CG422';
    END IF;
    PERFORM gate.require_signature(p_person_id, ARRAY['policy-approver'], 'approve', 'draft/' || p_draft_id,
                                   v_before.nonce, p_digest, p_report_digest, v_before.effective_from,
                                   v_before.warnings, p_proof);
    UPDATE gate.policy_drafts
    SET state = 'approved', approved_by = p_person_id, approved_at = clock_timestamp(), report_digest = p_report_digest,
        acknowledged_warnings = v_before.warnings, approval_comment = p_comment,
        revision = revision + 1, updated_at = clock_timestamp()
    WHERE draft_id = p_draft_id RETURNING * INTO v_after;
    PERFORM gate.audit_append(p_actor, 'draft.approve', p_draft_id::text, gate.draft_summary(v_before),
                              gate.draft_summary(v_after), p_comment, p_request_id);
    IF v_after.effective_from IS NULL OR v_after.effective_from <= clock_timestamp() THEN
        v_after := gate.draft_activate(p_draft_id, p_actor, p_request_id);
    END IF;
    RETURN v_after;
END $$;

-- Ends a draft: `rejected` by somebody else while it is in review, `withdrawn` before it is active. Neither lets
-- anything through, so neither is signed.
CREATE FUNCTION gate.draft_close(
    p_draft_id integer, p_state text, p_expected_revision integer, p_note text, p_actor text, p_request_id text
) RETURNS gate.policy_drafts LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_before gate.policy_drafts := gate.draft_locked(p_draft_id);
    v_after gate.policy_drafts;
BEGIN
    PERFORM gate.require_text('a reason', p_note);
    IF p_state NOT IN ('rejected', 'withdrawn') THEN
        RAISE EXCEPTION 'a draft is closed as rejected or withdrawn' USING ERRCODE = 'CG422';
    ELSIF p_expected_revision IS NOT NULL AND v_before.revision <> p_expected_revision THEN
        RAISE EXCEPTION 'the draft has changed since it was read' USING ERRCODE = 'CG412';
    END IF;
    UPDATE gate.policy_drafts
    SET state = p_state, closed_by = p_actor, closed_at = clock_timestamp(), closing_note = p_note,
        revision = revision + 1, updated_at = clock_timestamp()
    WHERE draft_id = p_draft_id RETURNING * INTO v_after;
    PERFORM gate.audit_append(
        p_actor, CASE p_state WHEN 'rejected' THEN 'draft.reject' ELSE 'draft.withdraw' END, p_draft_id::text,
        gate.draft_summary(v_before), gate.draft_summary(v_after), p_note, p_request_id);
    RETURN v_after;
END $$;

-- Stores a report on the document that the draft has now, which the report names too. The same one again is the same one.
CREATE FUNCTION gate.report_put(
    p_draft_id integer, p_document_digest bytea, p_report text, p_report_digest bytea, p_actor text, p_request_id text
) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_draft gate.policy_drafts := gate.draft_locked(p_draft_id);
    v_id bigint;
BEGIN
    IF v_draft.digest IS DISTINCT FROM p_document_digest THEN
        RAISE EXCEPTION 'the report is on another document than the draft has' USING ERRCODE = 'CG412';
    ELSIF sha256(convert_to(p_report, 'UTF8')) IS DISTINCT FROM p_report_digest THEN
        RAISE EXCEPTION 'the digest is not that of the report' USING ERRCODE = 'CG422';
    ELSIF p_report::jsonb #>> '{draft,digest}' IS DISTINCT FROM encode(p_document_digest, 'hex') THEN
        RAISE EXCEPTION 'the report says that it is on another document' USING ERRCODE = 'CG422';
    ELSIF v_draft.state NOT IN ('draft', 'in_review') THEN
        RAISE EXCEPTION 'the draft is % and takes no report', v_draft.state USING ERRCODE = 'CG409';
    END IF;
    SELECT report_id INTO v_id FROM gate.whatif_reports
    WHERE draft_id = p_draft_id AND document_digest = p_document_digest AND report_digest = p_report_digest;
    IF FOUND THEN
        RETURN v_id;
    END IF;
    INSERT INTO gate.whatif_reports (draft_id, document_digest, report_digest, report, created_by, created_at)
    VALUES (p_draft_id, p_document_digest, p_report_digest, p_report, p_actor, clock_timestamp())
    RETURNING report_id INTO v_id;
    PERFORM gate.audit_append(
        p_actor, 'whatif.report', p_draft_id::text, NULL,
        jsonb_build_object('report_id', v_id, 'document_digest', encode(p_document_digest, 'hex'),
                           'report_digest', encode(p_report_digest, 'hex')),
        NULL, p_request_id);
    RETURN v_id;
END $$;

SELECT gate.forbid_truncate('gate.policy_drafts', 'gate.whatif_reports');
