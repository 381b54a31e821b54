"""A decision in words: why, from which data, up to which amount, and what the applicant may do about it.

Sources of what is said: Reg B 1002.9 (specific reasons, at most four), FCRA 615 (whose data), GDPR Art. 22 and PIPL
Art. 24 (human review, contest). The texts of reasons are the policy's; the words around them stand here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from enum import StrEnum
from typing import Any

import orjson

from app.domain.application import Unknown
from app.domain.canonical import instant_text, parse_instant
from app.domain.fields import Source
from app.domain.money import minor_unit_exponent
from app.domain.policy import Text
from app.domain.policy_reader import CAPS
from app.domain.reasons import NextAction
from app.journal.reader import StoredDecision


class Language(StrEnum):
    """What notices are written in."""

    ENGLISH = "en"
    CHINESE = "zh"


SOURCE_NAMES: Mapping[Source, Text] = {
    Source.APPLICATION: Text(en="the application", zh="申请信息"),
    Source.APPLICANT: Text(en="the applicant", zh="申请人提供的信息"),
    Source.BUREAU: Text(en="the credit bureau", zh="征信机构"),
    Source.DEVICE: Text(en="the device that the application was sent from", zh="提交申请所用的设备"),
    Source.BUSINESS: Text(en="the business", zh="企业信息"),
    Source.CHANNEL: Text(en="the channel that the application came through", zh="申请来源渠道"),
    Source.OWN_RECORDS: Text(en="our own records", zh="本机构的记录"),
}

CAP_NAMES: Mapping[str, Text] = {
    "product_cap": Text(en="limit of the product", zh="产品限额"),
    "legal_cap": Text(en="legal limit", zh="法定限额"),
    "tier_cap": Text(en="limit of the channel's tier", zh="渠道等级限额"),
    "income_multiple": Text(en="multiple of the monthly income", zh="月收入倍数"),
    "dti": Text(en="what the income leaves for instalments", zh="收入扣除债务后的还款能力"),
}

_INPUT_NAMES: Mapping[str, Text] = {
    "applicant.monthly_income": Text(en="monthly income", zh="月收入"),
    "applicant.income_verification": Text(en="proof of income", zh="收入证明"),
    "applicant.monthly_obligations": Text(en="existing monthly obligations", zh="现有月还款额"),
    "all_in_apr_pct": Text(en="all-in yearly cost", zh="综合年化成本"),
}

_CAUSES: Mapping[str, Text] = {
    Unknown.NOT_REQUESTED: Text(en="was not given", zh="未提供"),
    Unknown.NOT_FOUND: Text(en="was not found by its source", zh="数据来源未查得"),
    Unknown.SOURCE_ERROR: Text(en="could not be obtained from its source", zh="数据来源出错，未能取得"),
    Unknown.UNDEFINED: Text(en="does not count as it was given", zh="所提供的内容不能作为依据"),
}

_HEADLINES: Mapping[str, Text] = {
    NextAction.PROCEED: Text(en="The application meets our requirements.", zh="本次申请符合我们的要求。"),
    NextAction.REVIEW: Text(
        en="A person will review the application before it is decided.", zh="本次申请将由工作人员审核后作出决定。"
    ),
    NextAction.HELD: Text(
        en="The application waits: the limit of the source that it came through has been reached.",
        zh="本次申请正在等待：其来源渠道的额度已用尽。",
    ),
    NextAction.COUNTER_OFFER: Text(
        en="We cannot offer the amount that was asked for, but we can offer a smaller one.",
        zh="我们无法提供所申请的金额，但可以提供较低的金额。",
    ),
    NextAction.DECLINE: Text(en="We cannot approve the application.", zh="我们无法批准本次申请。"),
}
_REASONS_FOLLOW = Text(en="The principal reasons are:", zh="主要原因如下：")
_FROM = Text(en=" (source: {})", zh="（数据来源：{}）")
_BUREAU_DID_NOT_DECIDE = Text(
    en="A credit bureau supplied information that was used. It did not make this decision and cannot explain it.",
    zh="本次决定使用了征信机构提供的信息。征信机构未作出该决定，也无法说明决定的原因。",
)
_OFFER = Text(
    en="We can offer up to {amount}, valid until {until}. Amend the application to that amount or less to accept.",
    zh="我们最多可提供 {amount}，有效期至 {until}。如接受，请将申请金额修改为不高于该金额后重新提交。",
)
_DUE = Text(en="You will hear from us by {}.", zh="我们最迟于 {} 通知您结果。")
_REVIEW_UNDER_WAY = Text(
    en="A person reviews this application. You may state your view and add evidence.",
    zh="本次申请由工作人员审核，您可以陈述意见并补充材料。",
)
_REVIEW_ON_REQUEST = Text(
    en="This decision was made automatically. You may ask for a review by a person and state your view.",
    zh="该决定由系统自动作出。您有权要求人工复核，并陈述您的意见。",
)
_CONTEST = Text(
    en="You may contest the decision and have wrong data corrected. Please name the decision {}.",
    zh="您可以对该决定提出异议，并要求更正错误信息。请注明决定编号 {}。",
)


def explain(
    stored: StoredDecision, language: Language, *, whole: bool, tier_name: Text | None = None
) -> dict[str, Any]:
    """The explanation of a stored decision, for its schema see the API.

    `whole` is for analysts, reviewers and admins: every reason with field, observed value and threshold, and the amount
    of each cap. Without it only what the answer said is said, and confidential rules stay hidden.
    """
    response = orjson.loads(stored.response)
    record = None if stored.record is None else orjson.loads(stored.record)
    say = _Speaker(language)
    shown = record["reasons"] if whole and record is not None else response["reasons"]
    reasons = [_reason(reason, say, whole=whole) for reason in shown]
    offer = response["counter_offer"]
    return {
        "decision_id": response["decision_id"],
        "application_id": response["application_id"],
        "revision": response["revision"],
        "language": language.value,
        "outcome": response["outcome"],
        "next_action": response["next_action"],
        "decided_at": response["decided_at"],
        "due_at": response["due_at"],
        "policy_version": response["policy_version"],
        "tier": {"code": response["tier"], "name": None if tier_name is None else say(tier_name)},
        "notice": "\n".join(_notice(response, say)),
        "principal_reasons": [reason for reason, raw in zip(reasons, shown, strict=True) if _is_principal(raw)],
        "other_reasons": [reason for reason, raw in zip(reasons, shown, strict=True) if not _is_principal(raw)],
        "ceiling": None if record is None else _ceiling(response, record, say, whole=whole),
        "counter_offer": None if offer is None else {**offer, "text": _offer_text(offer, say)},
        "rights": {
            "human_review": say(
                _REVIEW_UNDER_WAY if response["next_action"] == NextAction.REVIEW else _REVIEW_ON_REQUEST
            ),
            "contest": say(_CONTEST).format(response["decision_id"]),
        },
        "erased_at": None if stored.summary.erased_at is None else instant_text(stored.summary.erased_at),
    }


class _Speaker:
    """Picks the language of a text, in its stored form or in the code's."""

    def __init__(self, language: Language) -> None:
        self.language = language

    def __call__(self, text: Text | Mapping[str, str]) -> str:
        return (text.document() if isinstance(text, Text) else text)[self.language.value]


def _is_principal(reason: Mapping[str, Any]) -> bool:
    return bool(reason.get("principal", True))


def _reason(reason: Mapping[str, Any], say: _Speaker, *, whole: bool) -> dict[str, Any]:
    source = reason["source"]
    shown: dict[str, Any] = {
        "code": reason["code"],
        "text": say(reason["text"]),
        "data_source": None if source is None else {"code": source, "name": say(SOURCE_NAMES[Source(source)])},
    }
    if whole:
        for name in ("field", "observed", "threshold", "effect", "cause", "confidential"):
            shown[name] = reason.get(name)
    return shown


def _ceiling(response: Mapping[str, Any], record: Mapping[str, Any], say: _Speaker, *, whole: bool) -> dict[str, Any]:
    """The ceiling and its caps. It does not stand where a cap that the policy insists on could not be applied."""
    ceiling, stands = record["ceiling"], response["ceiling"]
    applied = {cap["cap"]: cap["amount"] for cap in ceiling["applied"]}
    not_applied = {cap["cap"]: cap for cap in ceiling["not_applied"]}
    caps = []
    for cap in CAPS:
        if cap not in applied and cap not in not_applied:
            continue
        shown = {
            "cap": cap,
            "name": say(CAP_NAMES[cap]),
            "applied": cap in applied,
            "binding": cap == ceiling["binding"],
            "why_not": _why_not(not_applied[cap], say) if cap in not_applied else None,
        }
        caps.append({**shown, "amount": applied.get(cap)} if whole else shown)
    amount = ceiling["amount"] if whole or stands is not None else None
    return {"amount": amount, "currency": ceiling["currency"], "stands": stands is not None, "caps": caps}


def _why_not(cap: Mapping[str, Any], say: _Speaker) -> str:
    name = _INPUT_NAMES.get(cap["field"])
    separator = "" if say.language is Language.CHINESE else " "
    return f"{cap['field'] if name is None else say(name)}{separator}{say(_CAUSES[cap['cause']])}"


def _notice(response: Mapping[str, Any], say: _Speaker) -> list[str]:
    """The notice as lines: nothing in it is confidential, whoever asks."""
    lines = [say(_HEADLINES[response["next_action"]])]
    if response["reasons"]:
        lines.append(say(_REASONS_FOLLOW))
    for number, reason in enumerate(response["reasons"], start=1):
        source = reason["source"]
        origin = "" if source is None else say(_FROM).format(say(SOURCE_NAMES[Source(source)]))
        lines.append(f"{number}. {say(reason['text'])}{origin}")
    if any(reason["source"] == Source.BUREAU for reason in response["reasons"]):
        lines.append(say(_BUREAU_DID_NOT_DECIDE))
    if response["counter_offer"] is not None:
        lines.append(_offer_text(response["counter_offer"], say))
    if response["due_at"] is not None:
        lines.append(say(_DUE).format(_day(response["due_at"])))
    return lines


def _offer_text(offer: Mapping[str, Any], say: _Speaker) -> str:
    amount = money_text(offer["amount"], offer["currency"])
    until = parse_instant(offer["valid_until"]).astimezone(UTC)
    return say(_OFFER).format(amount=amount, until=f"{until:%Y-%m-%d %H:%M} UTC")


def _day(instant: str) -> str:
    return parse_instant(instant).astimezone(UTC).date().isoformat()


def money_text(amount: int, currency: str) -> str:
    """Minor units as people read them: `CNY 12,000.00`."""
    exponent = minor_unit_exponent(currency)
    whole, rest = divmod(amount, 10**exponent)
    return f"{currency} {whole:,}" + (f".{rest:0{exponent}d}" if exponent else "")
