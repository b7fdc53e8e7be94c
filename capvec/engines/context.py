"""How long a conversation a model can be decoded in.

Some models compute the same token otherwise in a long text than in a short one. A cache keeps what was computed while
the text was short, and rows of a batch share one computation, so replies then differ from those without a cache, or
change with what is decoded beside them. The context ends where that begins:

* rotary frequencies that depend on the longest position (`longrope`, `dynamic`);
* attention that chooses some of the earlier tokens (DeepSeek V3.2): the choice among equals goes by the cache's shape.

Models without rotary frequencies have nothing for a position beyond the length that they were made for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

USUAL_CONTEXT = 4096
"""Of a model whose config names no length."""
LENGTHS = ("max_position_embeddings", "max_seq_len", "max_sequence_length", "n_positions", "n_ctx")
"""Keys under which configs name it; the first one counts."""


def context_of(config: Any, asked: int | None = None, positions: int | None = None) -> tuple[int, str]:
    """The most tokens of prompt and reply together, and why it is not what was asked for.

    Args:
        config: of the text model.
        asked: in place of the config's length.
        positions: how many the model has a row of a table for, where that is known; None for a model without a table.

    Returns:
        The length, and one sentence; empty where nothing limits the length.
    """
    named = _named(config)
    length = asked or named or USUAL_CONTEXT
    limits = [*_limits(config)]
    if named and not getattr(config, "rope_parameters", None):
        limits.append((named, "config names no position"))
    if positions is not None:
        limits.append((positions, "table of positions has no row"))
    limit, why = min(limits, default=(length, ""))
    if length <= limit:
        return length, ""
    return limit, f"The context is limited to {limit} of {length} tokens: beyond them, the model's {why}."


def _named(config: Any) -> int:
    """The length that a config names, or 0."""
    return next((int(length) for key in LENGTHS if (length := getattr(config, key, None))), 0)


def _limits(config: Any) -> Iterator[tuple[int, str]]:
    """Lengths up to which a token is computed the same, and what changes beyond."""
    for rope in _ropes(getattr(config, "rope_parameters", None) or {}):
        kind = str(rope.get("rope_type", ""))
        original = rope.get("original_max_position_embeddings") if kind == "longrope" else None
        if kind == "longrope" or "dynamic" in kind:
            yield int(original or config.max_position_embeddings), f"rotary frequencies ({kind}) change with the length"
    chosen = getattr(config, "index_topk", None)
    if blocks := getattr(config, "index_topk_blocks", None):
        chosen = int(blocks) * int(config.index_block_size)
    if chosen:
        yield int(chosen), "attention chooses among the earlier tokens"


def _ropes(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """The rotary parameters: of the whole model, or one for each type of layers."""
    return [parameters, *(one for one in parameters.values() if isinstance(one, dict))]
