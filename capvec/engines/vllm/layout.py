"""What plugin and `measured` agree on: the numbers that are kept of every request, and where each stands."""

from __future__ import annotations

from typing import Final

from capvec.steering import EXTREMES

KEY: Final = "capvec"
"""The key of capvec's part in vLLM's `additional_config` and in `SamplingParams.extra_args`."""

SUMS: Final = ("shift", "level", "ambient", "rounding", "positions", "again")
"""Sums over the positions that a steer applied to. `positions` counts them, and `again` those of them that were
computed a second time, after a preemption."""
LEAST: Final = (*EXTREMES, "fingerprint_min", "fingerprint_max")
"""Least values over these positions; of what ends in anything but `_min`, the least of the negative. The fingerprint is
that of the vector that was multiplied."""
READINGS: Final = (*SUMS, *LEAST)
"""The columns kept of each steer."""

WATCHED: Final = ("seen", "drew", "moved", "again", "tokens", "leak")
"""The columns kept of each request at each site: positions measured for the first time, those of them from which a
token is drawn, those that a steer moves; positions computed again; the sum of the tokens' ids at the positions that
were measured for the first time, as the model read them; the largest move of a position without a steer."""

PROMPT, ASSISTANT, GENERATED = range(3)
"""Kinds of positions: of the prompt, of an assistant's message in the prompt, and generated and fed back."""
APPLIES: Final = {"all": 0b111, "prompt": 0b011, "assistant": 0b110, "generated": 0b100}
"""For each of `capvec.steering.Positions`, a bit for each kind."""
