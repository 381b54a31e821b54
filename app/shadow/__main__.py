"""The process that evaluates: `python -m app.shadow <socket> <module:function>`, started by a worker and ended with it.

It gives way to everything else before it even imports anything, and has no settings, credentials or ports.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import resource
import socket
import sys

LEAST_PRIORITY = 19
MEMORY_LIMIT_BYTES = 1024**3


def main(arguments: list[str]) -> None:
    """Lower the priority and the limits, then serve what comes over the socket until the worker closes it."""
    os.nice(LEAST_PRIORITY)
    if hasattr(os, "SCHED_IDLE"):
        with contextlib.suppress(OSError):  # where a sandbox forbids it, the niceness is what there is
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # whoever else wakes up takes the core from it
    with contextlib.suppress(ValueError, OSError):  # a system that cannot limit it is no reason not to shadow
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    number, target = arguments
    module, _, function = target.partition(":")
    getattr(importlib.import_module(module), function)(socket.socket(fileno=int(number)))


if __name__ == "__main__":
    main(sys.argv[1:])
