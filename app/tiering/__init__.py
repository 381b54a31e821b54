"""Tiering on evidence: pure statistics over columns of loans. No I/O, no clock, no hidden randomness.

Needs the extra `tiering` (numpy and scipy), which nothing on the way of a live decision imports.

What a caller brings, and in which order it goes through:

1. `loans.LoanBook`: one row a funded loan, a column each: `unit`, `product`, `segment` (positions in lists that the
   caller keeps), `funded_month` (12 x year + month - 1), `exit_month` and `event_month` (months on book, 0 = not
   happened), `weight` (1, or 1 / probability for a randomly accepted one), `amount` (minor units). A *unit* is what is
   reviewed: a channel, or a channel's product and jurisdiction where tiers are assigned so.
2. `reference.fit_reference` makes the frozen `ReferenceModel` of hazards by segment and month on book; it is stored
   with its version and its `calibration`. `reference.supplied_reference` holds a table from elsewhere (cold start).
3. `counts.count` turns a book into `Counts`, observed and expected events by unit, product, cohort and month on book;
   `performance_complete_through` (a month per unit) bounds both. Counts of disjoint loans add up, so that a day's
   rollup may be counted alone.
4. `review.review` takes the counts with one `terms.Standing` and `review.Circumstances` per unit and returns a
   `review.Review`: kappa, the prior, the stops, and for each unit an `Assessment` with every figure and a `Verdict`.
   Nothing is applied here: the caller writes assignments, proposals and the next standings.
5. `alarm.scan` runs the CUSUM on first payments of one unit, day by day, from a stored state to the next.

`policy.TieringPolicy` holds every threshold, and `policy_document` its JSON form. `drift`, `bunching`,
`concentration`, `discrimination`, `vintage`, `economics` and `commission` stand alone.
"""
