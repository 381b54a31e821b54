"""Arrow tables on their way to a batch."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from app.whatif.run import BATCH_ROWS


def combined(tables: list[pa.Table]) -> Iterator[pa.RecordBatch]:
    """Tables as batches of at most `BATCH_ROWS`, each text with one set of codes."""
    whole = pa.concat_tables(tables, promote_options="default") if tables else None
    if whole is not None and whole.num_rows:
        yield from whole.unify_dictionaries().combine_chunks().to_batches(max_chunksize=BATCH_ROWS)
