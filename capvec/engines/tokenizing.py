"""A model's tokenizer for clients without one: `/tokenize`, `/detokenize` and `/tokenizer_info`, as vLLM has them."""

from __future__ import annotations

from typing import Any

from capvec.engines.chat_template import ChatTemplate
from capvec.engines.checks import encodable, given, invalid, json_object, shown

_TEXT = frozenset(("model", "prompt", "add_special_tokens"))
_TOKENS = frozenset(("model", "tokens"))


def parse_tokenize(raw: bytes, template: ChatTemplate) -> list[int]:
    """The tokens of the text of a body, with those that begin every text unless `add_special_tokens` is false.

    Raises:
        RequestError: not JSON, an unknown field, or a value of the wrong type.
    """
    body = json_object(raw, _TEXT)
    text, special = body.get("prompt"), given(body, "add_special_tokens", True)
    if not isinstance(text, str) or not isinstance(special, bool):
        raise invalid(f"prompt and add_special_tokens: {shown([text, special])}; expected a text, and true or false")
    return list(map(int, template.tokenizer(encodable(text, "prompt"), add_special_tokens=special)["input_ids"]))


def parse_detokenize(raw: bytes, template: ChatTemplate) -> str:
    """The text of the tokens of a body; raises as `parse_tokenize`."""
    tokens = json_object(raw, _TOKENS).get("tokens")
    known = len(template.tokenizer)
    if not isinstance(tokens, list) or not all(type(one) is int and 0 <= one < known for one in tokens):
        raise invalid(f"tokens: {shown(tokens)}; expected a list of tokens, from 0 to {known - 1}")
    return template.decode(tokens)


def about_tokenizer(template: ChatTemplate) -> dict[str, Any]:
    """What a client needs to know to use the tokens; null for a special token that there is not."""
    tokenizer = template.tokenizer
    special = {name: getattr(tokenizer, name, None) for name in ("bos_token", "eos_token", "pad_token", "unk_token")}
    written = template.source or tokenizer.chat_template
    return special | {"chat_template": written if isinstance(written, str) else None}
