"""The invariants, each as a query that gives what breaks it: a subject that can be looked up, and in what way.

Every query runs in one snapshot, reads what is stored and computes it anew. `:since` bounds what is read of the log and
of what follows from it; budgets are compared whole, since their figures are sums over everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Invariant:
    """One of them. `name` is its label in the metric, `says` what holds, `query` gives (subject, detail) where not."""

    name: str
    says: str
    query: str


_ACCEPTS = """
    SELECT d.decision_id, d.decided_at, d.decided_at AS accepted_at FROM gate.decisions d
    WHERE d.outcome = 'accept' AND d.decided_at >= :since
    UNION ALL
    SELECT h.decision_id, h.decided_at, h.closed_at FROM gate.held_queue h
    WHERE h.outcome = 'accept' AND h.closed_at >= :since
    UNION ALL
    SELECT v.decision_id, v.decided_at, v.resolved_at FROM gate.reviews v
    WHERE v.state = 'accepted' AND v.resolved_at >= :since
"""
"""Every accept, whoever decided it: the gate, the gate once a budget had room, or a reviewer."""

_TOLD = """
    SELECT e.subject, e.body::jsonb #>> '{data,by}' AS by, e.body::jsonb #>> '{data,outcome}' AS outcome,
           count(*) AS times
    FROM gate.events e WHERE e.kind = 'decision.resolved' AND e.at >= :since
    GROUP BY 1, 2, 3
"""

INVARIANTS: Final = (
    Invariant(
        name="budget_reserved",
        says="a period's reserved units are the sum of its open reservations",
        query="""
            SELECT p.period_id::text,
                   format('budget %s from %s: %s are written, %s are reserved', p.budget_id, p.starts_at, p.reserved,
                          s.units)
            FROM gate.budget_periods p
            CROSS JOIN LATERAL (
                SELECT coalesce(sum(u.units), 0) AS units
                FROM gate.reservation_units u JOIN gate.reservations r USING (decision_id)
                WHERE u.period_id = p.period_id AND r.state = 'reserved') s
            WHERE p.reserved <> s.units
        """,
    ),
    Invariant(
        name="budget_posted",
        says="a period's posted units are the sum of what was funded, less what was repaid or taken back",
        query="""
            WITH booked AS (
                SELECT u.period_id, gate.posted_units(b.measure, u.units, r.amount, CASE b.period
                    WHEN 'outstanding' THEN least(r.posted_amount, l.balance) ELSE r.posted_amount END) AS units
                FROM gate.reservation_units u JOIN gate.reservations r USING (decision_id)
                JOIN gate.budget_periods p USING (period_id) JOIN gate.budgets b USING (budget_id)
                LEFT JOIN gate.loan_balances l ON l.decision_id = u.decision_id
                WHERE r.state = 'posted'
                UNION ALL
                SELECT u.period_id, CASE WHEN b.period = 'outstanding' AND l.balance < o.amount
                    THEN gate.posted_units(b.measure, u.units, o.amount, l.balance) ELSE u.units END
                FROM gate.overrun_units u JOIN gate.overruns o USING (decision_id)
                JOIN gate.budget_periods p USING (period_id) JOIN gate.budgets b USING (budget_id)
                LEFT JOIN gate.loan_balances l ON l.decision_id = u.decision_id
                UNION ALL
                SELECT period_id, units FROM gate.reservation_adjustments
            ), sums AS (SELECT period_id, sum(units) AS units FROM booked GROUP BY period_id)
            SELECT p.period_id::text,
                   format('budget %s from %s: %s are written, %s are posted', p.budget_id, p.starts_at, p.posted,
                          coalesce(s.units, 0))
            FROM gate.budget_periods p LEFT JOIN sums s USING (period_id)
            WHERE p.posted <> coalesce(s.units, 0)
        """,
    ),
    Invariant(
        name="accept_reserved",
        says="every accept has its reservation",
        query="""
            SELECT a.decision_id::text, 'is an accept without a reservation'
            FROM (<accepts>) a LEFT JOIN gate.reservations r USING (decision_id)
            WHERE r.decision_id IS NULL
        """.replace("<accepts>", _ACCEPTS),
    ),
    Invariant(
        name="reservation_explained",
        says="every reservation is that of an accept",
        query="""
            SELECT r.decision_id::text, 'has a reservation and is no accept'
            FROM gate.reservations r
            JOIN gate.decisions d ON d.decision_id = r.decision_id
                                 AND d.decided_at = coalesce(r.decided_at, r.reserved_at)
            LEFT JOIN gate.held_queue h ON h.decision_id = r.decision_id
            LEFT JOIN gate.reviews v ON v.decision_id = r.decision_id
            WHERE r.reserved_at >= :since AND d.outcome <> 'accept' AND h.outcome IS DISTINCT FROM 'accept'
              AND v.state IS DISTINCT FROM 'accepted'
        """,
    ),
    Invariant(
        name="reservation_units",
        says="a reservation holds units of every budget that applied when it was made, and nothing else holds any",
        query="""
            SELECT r.decision_id::text, format('holds nothing of budget %s, which applied', b.budget_id)
            FROM gate.reservations r
            JOIN gate.decisions d ON d.decision_id = r.decision_id
                                 AND d.decided_at = coalesce(r.decided_at, r.reserved_at)
            JOIN gate.budgets b ON gate.budget_covers(b, d.channel_id, d.tier, d.product, d.jurisdiction, d.currency)
            WHERE r.reserved_at >= :since AND b.cause = 'manual'
              -- A change of budgets and a flush may pass one another within a moment; neither is wrong then.
              AND r.reserved_at > b.created_at + interval '1 minute'
              AND (b.ended_at IS NULL OR r.reserved_at < b.ended_at - interval '1 minute')
              AND NOT EXISTS (SELECT FROM gate.reservation_units u JOIN gate.budget_periods p USING (period_id)
                              WHERE u.decision_id = r.decision_id AND p.budget_id = b.budget_id)
            UNION ALL
            SELECT u.decision_id::text, format('holds units of period %s without a reservation', u.period_id)
            FROM gate.reservation_units u LEFT JOIN gate.reservations r USING (decision_id)
            WHERE r.decision_id IS NULL
        """,
    ),
    Invariant(
        name="resolved_once",
        says="no reservation, held decision or review was resolved twice",
        query="""
            SELECT e.subject, format('its reservation ended %s times', count(*))
            FROM gate.events e
            WHERE e.kind IN ('reservation.expired', 'reservation.voided') AND e.at >= :since
            GROUP BY e.subject HAVING count(*) > 1
            UNION ALL
            SELECT t.subject, format('was resolved %s times by %s', sum(t.times), t.by)
            FROM (<told>) t GROUP BY t.subject, t.by HAVING sum(t.times) > 1
            UNION ALL
            SELECT r.decision_id::text, 'was funded from its reservation and without one'
            FROM gate.reservations r JOIN gate.overruns o USING (decision_id)
            WHERE r.state = 'posted' AND o.kind = 'unreserved'
        """.replace("<told>", _TOLD),
    ),
    Invariant(
        name="outbox_reservations",
        says="what the outbox tells of reservations is what became of them",
        query="""
            SELECT coalesce(r.decision_id::text, e.subject),
                   format('its reservation is %s, and the outbox says %s', coalesce(r.state, 'nowhere'),
                          coalesce(e.kind, 'nothing'))
            FROM (SELECT r.* FROM gate.reservations r
                  JOIN gate.decisions d ON d.decision_id = r.decision_id
                                       AND d.decided_at = coalesce(r.decided_at, r.reserved_at)
                  WHERE r.resolved_at >= :since
                    AND (r.state = 'expired' OR (r.state = 'voided' AND r.cause = 'channel'))) r
            FULL JOIN (SELECT subject, kind FROM gate.events
                       WHERE kind IN ('reservation.expired', 'reservation.voided') AND at >= :since) e
              ON e.subject = r.decision_id::text AND e.kind = 'reservation.' || r.state
            WHERE r.decision_id IS NULL AND NOT EXISTS (
                      SELECT FROM gate.reservations x
                      WHERE x.decision_id::text = e.subject AND 'reservation.' || x.state = e.kind)
               OR e.subject IS NULL AND r.resolved_at >= :since + interval '1 minute'
        """,
    ),
    Invariant(
        name="outbox_decisions",
        says="what the outbox tells of reviews and held decisions is what they came to",
        query="""
            WITH ended AS (
                SELECT v.decision_id::text AS subject, 'reviewer' AS by,
                       CASE v.state WHEN 'accepted' THEN 'accept' ELSE 'reject' END AS outcome, v.resolved_at AS at
                FROM gate.reviews v WHERE v.state IN ('accepted', 'rejected') AND v.resolved_at >= :since
                UNION ALL
                SELECT h.decision_id::text, 'budget', h.outcome, h.closed_at
                FROM gate.held_queue h WHERE h.state = 'resolved' AND h.closed_at >= :since
            )
            SELECT coalesce(n.subject, t.subject),
                   format('ended as %s by %s, and the outbox says %s', coalesce(n.outcome, 'nothing'),
                          coalesce(n.by, t.by), coalesce(t.outcome, 'nothing'))
            FROM ended n FULL JOIN (<told>) t USING (subject, by, outcome)
            WHERE (n.at IS NULL AND NOT EXISTS (
                      SELECT FROM gate.reviews v WHERE v.decision_id::text = t.subject AND t.by = 'reviewer'
                        AND v.state = t.outcome || 'ed')
                   AND NOT EXISTS (
                      SELECT FROM gate.held_queue h WHERE h.decision_id::text = t.subject AND t.by = 'budget'
                        AND h.outcome = t.outcome)
                   AND EXISTS (SELECT FROM gate.decisions d WHERE d.decision_id::text = t.subject
                                 AND d.decided_at >= :since))
               OR (t.times IS NULL AND n.at >= :since + interval '1 minute')
        """.replace("<told>", _TOLD),
    ),
    Invariant(
        name="outbox_channels",
        says="each change of a channel's state was told once",
        query="""
            SELECT c.code, format('%s changes, and %s of them told', s.changes, s.told)
            FROM gate.channels c
            CROSS JOIN LATERAL (
                SELECT (SELECT count(*) FROM gate.channel_state_changes x
                        WHERE x.channel_id = c.channel_id AND x.at >= :since) AS changes,
                       (SELECT count(*) FROM gate.events e
                        WHERE e.kind = 'channel.state_changed' AND e.subject = c.code
                          AND (e.body::jsonb #>> '{data,at}')::timestamptz >= :since) AS told) s
            WHERE s.changes <> s.told
        """,
    ),
    Invariant(
        name="reviews_complete",
        says="every escalation is in the queue of reviews",
        query="""
            SELECT d.decision_id::text, 'waits for a person and is in no queue'
            FROM gate.decisions d LEFT JOIN gate.reviews v USING (decision_id)
            WHERE d.next_action = 'review' AND d.decided_at >= :since AND d.decided_at < now() - interval '15 minutes'
              AND v.decision_id IS NULL
        """,
    ),
    Invariant(
        name="keys",
        says="every decision holds the key of its application and revision",
        query="""
            SELECT d.decision_id::text, 'does not hold its key'
            FROM gate.decisions d
            LEFT JOIN gate.decision_keys k
              ON k.originator_id = d.originator_id AND k.application_id = d.application_id AND k.revision = d.revision
             AND k.decision_id = d.decision_id
            WHERE d.decided_at >= :since AND k.decision_id IS NULL
              AND NOT EXISTS (SELECT FROM gate.dropped_months m
                              WHERE m.retention_class = d.retention_class
                                AND m.month = date_trunc('month', d.decided_at AT TIME ZONE 'UTC')::date)
        """,
    ),
)
