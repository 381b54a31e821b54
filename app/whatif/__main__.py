"""`python -m app.whatif <run id>`: a service starts it. It gives way to everything else before it imports anything."""

from __future__ import annotations

import contextlib
import os
import sys

LEAST_PRIORITY = 19


def main(arguments: list[str]) -> int:
    """Lower the priority, then run; 1 where it failed."""
    os.nice(LEAST_PRIORITY)
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):  # where a sandbox forbids it, the niceness is what there is
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    import asyncio

    from app.governance.whatif_runs import RunState
    from app.settings import read_settings
    from app.whatif.job import run_job

    settings = read_settings()
    if settings.extract_directory is None:
        return 1
    (number,) = arguments
    ended = asyncio.run(run_job(settings.governance_url(), settings.extract_directory, int(number)))
    return int(ended is RunState.FAILED)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
