"""How long a conversation a model can be decoded in.

Some models compute the same token otherwise in a long text than in a short one. A cache keeps what was computed while
the text was short, and rows of a batch share one computation, so replies then differ from those without a cache, or
change with what is decoded beside them. The context ends where that begins:

* rotary frequencies that depend on the longest position (`longrope`, `dynamic`);
* attention that chooses some of the earlier tokens (DeepSeek V3.2): the choice among equals goes by the cache's shape.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

USUAL_CONTEXT = 4096
"""Of a model whose config names no length."""


def context_of(config: Any, asked: int | None = None) -> tuple[int, str]:
    """The most tokens of prompt and reply together, and why it is not what was asked for.

    Args:
        config: of the text model.
        asked: in place of the config's length.

    Returns:
        The length, and one sentence; empty where nothing limits the length.
    """
    length = asked or int(getattr(config, "max_position_embeddings", 0) or USUAL_CONTEXT)
    limit, why = min(_limits(config), default=(length, ""))
    if length <= limit:
        return length, ""
    return limit, f"The context is limited to {limit} of {length} tokens: beyond them, the model's {why}."


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
