"""A world of channels whose true quality is known, to try tiering in: its applicants go through the gate's own rules.

Pure but for the random generator that each call is given. A month goes round in `life.Life`: the channels' people
apply (`applicants`), the default policy decides them in columns as the hot path would (`gate`), budgets hold some back,
loans are funded and become what they become (`outcomes`), and `app.tiering` reviews the channels, whose tiers and
budgets decide the next month. Needs the extras `whatif` and `tiering`.
"""
