"""What a report says of a history that fits on a page."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from app.domain.canonical import canonical_bytes, digest
from app.domain.channel import ChannelState
from app.domain.compiled import CompiledPolicy
from app.domain.compiler import compile_policy
from app.domain.policy_changes import with_threshold
from app.whatif import run
from app.whatif.economics import Economics, EconomicsError, read_bands
from app.whatif.evaluation import Evaluation, evaluate
from app.whatif.extract import Selection
from app.whatif.history import History, PastRequest, Place
from app.whatif.per_row import DisagreementError
from app.whatif.report import Report
from app.whatif.run import CancelledError, what_if
from tests.domain.builders import payload, policy, unknown

AT = datetime(2026, 1, 15, 8, 0, tzinfo=UTC)
BANDS = {"field": "bureau.score", "bands": [{"from": 0, "pd_pct": 10}, {"from": 700, "pd_pct": "2.5"}]}


def past(number: int, outcome: str | None = None, repaid: bool | None = None, **changes: Any) -> PastRequest:
    request = payload(**changes) | {"application_id": f"a-{number}"}
    request |= {"submitted_at": None, "completed_at": None}
    request["bureau"] = request["bureau"] | {"pulled_at": AT - timedelta(days=1)}
    return PastRequest(payload=request, outcome=outcome, repaid=repaid)


def report(*requests: PastRequest | str, draft: CompiledPolicy | None = None, **options: Any) -> Report:
    places = options.pop("places", None)
    history = History(
        list(requests),
        attributes=(),
        at=AT,
        places=places,
        selection=options.pop("selection", Selection()),
        described={},
    )
    return what_if(history, draft or policy(), **options)


def stricter(score: int = 700) -> CompiledPolicy:
    return compile_policy(with_threshold(policy().document, "BU03", "general", score).document())


def totals(made: Report) -> dict[tuple[str, str], int]:
    document: Any = made.document
    return {(each["before"], each["after"]): each["decisions"] for each in document["totals"]}


def test_outcomes_before_and_after_are_counted_by_channel_and_tier() -> None:
    made = report(past(1, "accept"), past(2, "accept", bureau__score=500), past(3, "reject", channel_code="shop"))
    document: Any = made.document
    cells = {
        (cell["channel"], cell["tier"], cell["before"], cell["after"]): cell["decisions"] for cell in document["matrix"]
    }
    channel = payload()["channel_code"]
    assert cells == {
        (channel, "general", "accept", "accept"): 1,
        (channel, "general", "accept", "reject"): 1,
        ("shop", "general", "reject", "accept"): 1,
    }


def test_a_baseline_policy_stands_in_for_what_was_recorded() -> None:
    made = report(past(1, bureau__score=650), past(2, bureau__score=800), draft=stricter(), baseline=policy())
    document: Any = made.document
    assert totals(made) == {("accept", "accept"): 1, ("accept", "reject"): 1}
    assert document["flips"][0]["reasons_gained"] == {"BU03": 1}
    assert document["flips"][0]["examples"][0]["id"] == "a-1"
    assert document["reasons"] == [{"code": "BU03", "before": 0, "after": 1}]
    assert document["ceilings"] == {"lowered": 0, "raised": 0, "unchanged": 2}


def test_what_was_never_decided_is_no_flip() -> None:
    made = report(past(1))
    document: Any = made.document
    assert document["without_recorded_outcome"] == 1
    assert document["flips"] == []
    assert document["repayment"]["swap_in"]["decisions"] == 0


def test_what_the_draft_would_refuse_says_why() -> None:
    made = report(past(1, "accept", currency="USD"), past(2, "accept", consent_at=None))
    document: Any = made.document
    assert totals(made) == {("accept", "refused"): 2}
    assert document["refused_because"] == {"consent": 1, "currency": 1}


def test_expected_loss_is_pd_by_band_times_lgd_times_ead() -> None:
    requests = (past(1, bureau__score=650, amount=1_000_000), past(2, bureau__score=800, amount=2_000_000))
    made = report(*requests, draft=stricter(), baseline=policy(), economics=Economics(bands=read_bands(BANDS)))
    document: Any = made.document
    before = (1_000_000 * 10 + 2_000_000 * 25 // 10) * 65 * 75 // 1_000_000
    after = 2_000_000 * 25 // 10 * 65 * 75 // 1_000_000
    assert document["expected_loss"] | {"pd": 0} == {
        "known": True, "before": before, "after": after, "delta": after - before, "lgd_pct": 65, "ead_pct": 75, "pd": 0,
    }  # fmt: skip


def test_expected_loss_is_unknown_without_probabilities_and_where_one_is_missing() -> None:
    without: Any = report(past(1, "accept")).document
    assert without["expected_loss"] == {"known": False, "lgd_pct": 65, "ead_pct": 75, "pd": "unknown"}
    named = {"field": "bureau.score_band", "bands": [{"is": "A", "pd_pct": 1}]}
    outside: Any = report(past(1, "accept"), economics=Economics(bands=read_bands(named))).document
    assert outside["expected_loss"]["known"] is False
    inside: Any = report(
        past(1, "accept", bureau__score_band="A", amount=1_000_000), economics=Economics(bands=read_bands(named))
    ).document
    assert inside["expected_loss"]["after"] == 1_000_000 * 65 * 75 // 1_000_000
    rest: Any = report(
        past(1, "accept", amount=1_000_000), economics=Economics(bands=read_bands(named | {"otherwise_pd_pct": 2}))
    ).document
    assert rest["expected_loss"]["after"] == 2 * 1_000_000 * 65 * 75 // 1_000_000


@pytest.mark.parametrize(
    "document",
    [
        None,
        {},
        {"field": "x", "bands": []},
        {"field": "x", "bands": [{"from": 1}]},
        {"field": "x", "bands": [{"from": "1", "pd_pct": 1}]},
        {"field": "x", "bands": [{"from": 2, "pd_pct": 1}, {"from": 1, "pd_pct": 1}]},
        {"field": "x", "bands": [{"from": 1, "pd_pct": 1}, {"is": "A", "pd_pct": 1}]},
        {"field": "x", "bands": [{"is": "A", "pd_pct": 1}, {"is": "A", "pd_pct": 1}]},
        {"field": "x", "bands": [{"is": "A", "pd_pct": 101}]},
        {"field": "x", "bands": [{"is": "A", "pd_pct": "1.00001"}]},
        {"field": "x", "bands": [{"is": "A", "pd_pct": 1}], "else": 1},
    ],
)
def test_a_table_that_is_none_is_refused(document: object) -> None:
    with pytest.raises(EconomicsError):
        read_bands(document)


def test_repayment_is_what_is_known_and_unknown_is_no_zero() -> None:
    requests = [past(n, bureau__score=650, repaid=repaid) for n, repaid in enumerate((True, True, False, None))]
    document: Any = report(*requests, draft=stricter(), baseline=policy()).document
    assert document["repayment"]["swap_out"]["known"] == 3
    assert document["repayment"]["swap_out"]["repaid"] == 2
    assert document["repayment"]["swap_in"] == {"decisions": 0, "amount": 0, "known": 0, "repaid": None}


def test_escalations_are_held_against_what_reviewers_can_do() -> None:
    requests = [
        past(number, "accept", unknown=unknown(bureau__score="source_error"), bureau__score=None)
        for number in range(81)
    ]
    document: Any = report(*requests, reviewers=1).document
    reviews = document["reviews"]
    assert reviews["before"] is None  # nobody recorded what was to be done
    assert reviews["after"] == {
        "total": 81, "busiest_day": 81, "busiest_day_date": "2026-01-15", "reviewers_for_the_busiest_day": 2,
        "days_above_capacity": 1,
    }  # fmt: skip


def test_counter_offers_do_not_wait_for_a_reviewer() -> None:
    document: Any = report(past(1, "accept", amount=19_000_000), baseline=policy()).document
    assert document["exposure"]["counter_offers"] == {"before": 1, "after": 1}
    assert document["reviews"]["after"]["total"] == 0


def test_channels_stand_as_they_are_listed_and_others_are_left_out() -> None:
    channel = payload()["channel_code"]
    places = {channel: Place(tier="prime"), "gone": Place(state=ChannelState.SUSPENDED)}
    made = report(
        past(1, "accept"),
        past(2, "accept", channel_code="gone"),
        past(3, channel_code="new"),
        "not-mapped",
        places=places,
    )
    document: Any = made.document
    assert totals(made) == {("accept", "accept"): 1, ("accept", "reject"): 1}
    assert document["source"]["left_out"] == {"not-mapped": 1, "unknown-channel": 1}
    assert {cell["tier"] for cell in document["matrix"]} == {"prime", "general"}


def test_channels_are_chosen_by_code() -> None:
    made = report(
        past(1, "accept"), past(2, "accept", channel_code="shop"), selection=Selection(channels=frozenset({"shop"}))
    )
    document: Any = made.document
    assert {cell["channel"] for cell in document["matrix"]} == {"shop"}
    assert document["source"]["left_out"] == {"not-selected": 1}


def test_the_digest_is_of_the_canonical_document_and_of_nothing_measured() -> None:
    one, other = report(past(1, "accept")), report(past(1, "accept"))
    assert one.digest == other.digest == digest(canonical_bytes(json.loads(one.content)))
    assert one.digest != report(past(1, "reject")).digest
    assert one.document["draft"] == {
        "name": policy().document.name,
        "digest": digest(canonical_bytes(policy().document.document())).hex(),
        "version": 7,
    }


def test_nothing_to_decide_is_a_report_too() -> None:
    document: Any = report().document
    assert document["decisions"] == 0
    assert document["reviews"]["after"]["busiest_day_date"] is None


def test_progress_is_told_and_a_cancelled_run_stops() -> None:
    heard: list[tuple[int, int | None]] = []
    report(past(1), past(2), on_progress=lambda done, total: heard.append((done, total)))
    assert heard == [(2, None)]
    with pytest.raises(CancelledError):
        report(past(1), is_cancelled=lambda: True)


def test_an_evaluation_that_the_hot_path_contradicts_makes_no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(batch: pa.RecordBatch, policy: CompiledPolicy) -> Evaluation:
        evaluation = evaluate(batch, policy)
        return replace(evaluation, outcomes=(evaluation.outcomes + 1) % 3)

    monkeypatch.setattr(run, "evaluate", wrong)
    with pytest.raises(DisagreementError):
        report(past(1, "accept"))
