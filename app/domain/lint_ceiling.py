"""What is odd about a policy's caps: tiers out of order, caps that never bind, amounts that nobody can be lent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

from app.domain.compiled import CompiledPolicy
from app.domain.lint_findings import Code, Finding
from app.domain.money import floor_to_unit
from app.domain.policy import Product


def ceiling_findings(policy: CompiledPolicy) -> Iterator[Finding]:
    """Every finding on the ceiling and the products."""
    terms = policy.ceiling
    by_rank = [tier.code for tier in sorted(policy.tiers.values(), key=lambda tier: tier.rank)]
    for column, caps in (
        ("tier_cap", terms.tier_cap),
        ("income_multiple", terms.income_multiple_hundredths),
        ("dti_max_pct", terms.dti_max_bps),
    ):
        for better, worse in pairwise(by_rank):
            if _laxer(caps, worse, better):
                detail = f"{worse} may borrow more than {better}, which is the better tier"
                yield Finding(Code.CAP_NOT_MONOTONE, "ceiling", f"{column}.{worse}", detail)
    closed = [product for product in policy.products.values() if _too_small(product, _hard_cap(product))]
    for product in closed:
        detail = "rounded down to its unit, the most that is lent is below the minimum: nobody can be accepted"
        yield Finding(Code.PRODUCT_CLOSED, f"products.{product.code}", "product_cap", detail)
    open_products = [product for product in policy.products.values() if product not in closed]
    for tier in by_rank:
        cap = terms.tier_cap[tier]
        if cap is None or not open_products:
            continue
        if all(cap > _hard_cap(product) for product in open_products):
            detail = "is above what every product lends at most, so it never binds"
            yield Finding(Code.CAP_NEVER_BINDS, "ceiling", f"tier_cap.{tier}", detail)
        for product in open_products:
            if _too_small(product, cap):
                detail = f"no application for {product.code} can reach it: rounded down it is below the minimum amount"
                yield Finding(Code.CEILING_OUT_OF_REACH, "ceiling", f"tier_cap.{tier}", detail)


def _laxer(caps: Mapping[str, int | None], worse: str, better: str) -> bool:
    strict, cap = caps[better], caps[worse]
    return strict is not None and (cap is None or cap > strict)


def _hard_cap(product: Product) -> int:
    return product.product_cap if product.legal_cap is None else min(product.product_cap, product.legal_cap)


def _too_small(product: Product, cap: int) -> bool:
    return floor_to_unit(min(cap, _hard_cap(product)), product.rounding_unit) < product.minimum_amount
