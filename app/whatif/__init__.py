"""What a draft policy would have decided: stored or brought decisions, decided again as columns.

Needs the extra `whatif` (numpy and pyarrow), which nothing on the way of a live decision imports.
"""
