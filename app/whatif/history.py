"""A lender's own history as the source of a what-if: requests that were never decided by the gate, in any number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from app.domain.canonical import Json
from app.domain.channel import SERVED_STATES, ChannelState
from app.domain.intake import read_instant
from app.whatif.extract import Selection
from app.whatif.packing import Context, Packer
from app.whatif.run import BATCH_ROWS
from app.whatif.tables import combined

_PACKED_ROWS = 8_192


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """How a channel stands for all of the history: its state, and its own tier if it has one."""

    state: ChannelState = ChannelState.ACTIVE
    tier: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PastRequest:
    """One request of the past, in the form of the request schema, and what is known of it besides."""

    payload: Mapping[str, Any]
    outcome: str | None = None
    repaid: bool | None = None


class History:
    """Past requests in their order. `requests` is gone through once; a str in it says why a row is none."""

    def __init__(
        self,
        requests: Iterable[PastRequest | str],
        *,
        attributes: Iterable[str],
        at: datetime,
        places: Mapping[str, Place] | None,
        selection: Selection,
        described: Mapping[str, Json],
    ) -> None:
        """`attributes` are all that a request may have; `at` is the moment of those that name none; `places` are the
        channels that there are (None: any, active and without a tier of their own)."""
        self._requests = requests
        self._attributes = tuple(attributes)
        self._at = at
        self._places = places
        self._selection = selection
        self._described = described
        self._counts: Counter[str] = Counter()

    @property
    def rows(self) -> int | None:
        """Nobody knows before the end."""
        return None

    def batches(self, columns: frozenset[str]) -> Iterator[pa.RecordBatch]:
        """The requests as columns; all of them, since they are made here."""
        del columns
        packer = Packer(self._attributes)
        gathered: list[pa.Table] = []
        for request in self._requests:
            if isinstance(request, str):
                self._counts[request] += 1
                continue
            context = self._context(request)
            if context is None:
                self._counts["unknown-channel"] += 1
                continue
            packer.add(context, request.payload)
            if len(packer) == _PACKED_ROWS:
                gathered.append(self._wanted(packer))
                if sum(each.num_rows for each in gathered) >= BATCH_ROWS:
                    yield from combined(gathered)
                    gathered = []
        gathered.append(self._wanted(packer))
        yield from combined(gathered)

    def document(self) -> dict[str, Json]:
        """What was read."""
        left_out: dict[str, Json] = dict(sorted(self._counts.items()))
        return {
            "kind": "history",
            **self._described,
            **self._selection.document(),
            "left_out": left_out,
            "channels_are": "all active, without a tier of their own" if self._places is None else "as listed",
        }

    def show_id(self, row_id: bytes) -> str:
        """The application's id."""
        return row_id.decode()

    def _context(self, request: PastRequest) -> Context | None:
        """What surrounds a request; None where its channel is not one."""
        payload = request.payload
        place = Place() if self._places is None else self._places.get(payload["channel_code"])
        if place is None or place.state is ChannelState.PROPOSED:
            return None
        stated = (read_instant(payload, key, f"/{key}", []) for key in ("submitted_at", "completed_at"))
        at = next((each for each in stated if each is not None), self._at)
        return Context(
            row_id=str(payload["application_id"]).encode(),
            decided_at=at,
            channel_code=payload["channel_code"],
            channel_state=place.state.value,
            served=place.state in SERVED_STATES,
            assigned_tier=place.tier,
            outcome=request.outcome,
            repaid=request.repaid,
        )

    def _wanted(self, packer: Packer) -> pa.Table:
        table = pa.Table.from_batches([packer.batch()])
        wanted = table.filter(self._selection.mask(table))
        if table.num_rows > wanted.num_rows:
            self._counts["not-selected"] += table.num_rows - wanted.num_rows
        return wanted
