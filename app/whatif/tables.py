"""Arrow tables on their way to a batch."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa


def combined(tables: list[pa.Table]) -> Iterator[pa.RecordBatch]:
    """Tables as one batch, each text with one set of codes; none where they hold no row."""
    whole = pa.concat_tables(tables, promote_options="default") if tables else None
    if whole is not None and whole.num_rows:
        yield from whole.unify_dictionaries().combine_chunks().to_batches()
