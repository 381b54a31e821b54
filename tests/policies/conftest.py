"""The engines that the tests of the channels have."""

from __future__ import annotations

from tests.channels.conftest import governance, serving

__all__ = ["governance", "serving"]
