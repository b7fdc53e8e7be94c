"""What a model's tokenizer makes of text is found out when the model is loaded."""

from __future__ import annotations

import string
from itertools import takewhile
from typing import Any
from unicodedata import normalize

from capvec.errors import UsageError

_GRAPHIC = string.digits + string.ascii_letters + string.punctuation
_PLAIN = (
    f"{_GRAPHIC} in  two   three        spaces,{' ' * 17}\n\n\n\tA  Tab\r\n\tand 'Lines' \\n of $TEXT  \n    # end."
    f"{chr(10) * 7}\t\t\tEnd."
)
_FOREIGN = ("▁", "Größe", "naïve", "½", "①", "ﬁle", "Ａ", "…", "x²", "™", "файла", "漢字", "한글", "→", "✓", "😀")
"""Words in composed form, of which compatibility normalization (NFKC) changes seven."""
_SHOWN = 12
"""Characters of a text in an error."""


def rewritten_words(tokenizer: Any, name: str) -> tuple[str, ...]:
    """The words of a small sample that do not come back from the tokenizer as they went in, up to Unicode's NFC.

    Args:
        tokenizer: of transformers.
        name: of the model, for errors.

    Raises:
        UsageError: ASCII text does not come back, up to white space around it: a command would not be what the model
            wrote, and the model would not see what it printed.
    """
    read = _read(tokenizer, _PLAIN)
    if read != _PLAIN:
        at = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(_PLAIN, read, strict=False)))
        raise UsageError(
            f"the tokenizer of {name!r} cannot be used: it makes {read[at : at + _SHOWN]!r} of "
            f"{_PLAIN[at : at + _SHOWN]!r}; expected one that keeps letters, signs, spaces and line ends of commands"
        )
    return tuple(word for word in _FOREIGN if normalize("NFC", _read(tokenizer, f"a{word}b")) != f"a{word}b")


def _read(tokenizer: Any, text: str) -> str:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    read: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return read.strip()
