"""The application of the OpenAPI document, of the demo and of the README. Tests send it."""

from __future__ import annotations

from typing import Any

APPLICATION: dict[str, Any] = {
    "application_id": "A-1001",
    "channel_code": "app-store",
    "product": "unsecured_consumer",
    "amount": 5_000_000,
    "currency": "CNY",
    "term_months": 12,
    "jurisdiction": "CN",
    "all_in_apr_pct": 18.5,
    "submitted_at": "2026-11-24T10:00:00Z",
    "completed_at": "2026-11-24T10:00:00Z",
    "consent_at": "2026-11-24T09:59:00Z",
    "applicant": {
        "applicant_ref": "p-5d41402abc4b2a76",
        "birth_date": "1990-05-17",
        "employment_type": "permanent",
        "employment_months": 48,
        "residence_months": 36,
        "monthly_income": 1_500_000,
        "income_verification": "payroll",
        "monthly_obligations": 200_000,
    },
    "bureau": {
        "pulled_at": "2026-11-23T08:00:00Z",
        "hit": True,
        "score": 715,
        "history_months": 84,
        "max_dpd_12m": 0,
        "current_dpd_own": 0,
        "inquiries_3m": 1,
        "active_lenders": 2,
        "open_judgment": False,
    },
    "device": {"ids_on_device_24h": 1},
    "unknown": {"bureau.bankruptcy_months_ago": "not_found"},
}
