"""JSON and TOML of others, within bounds of depth, of numbers and of memory.

Both may nest `DEEPEST` levels, and hold whole numbers of `LONGEST_NUMBER` digits and of 64 bits, respectively.
"""

from __future__ import annotations

import json
import math
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from capvec.errors import UsageError
from capvec.reading import MIB, RECORD, read_bytes, shown

DEEPEST = 128
"""Levels of lists, objects and tables."""
LONGEST_NUMBER = 300
"""Digits of a whole number in JSON: a float holds no longer one."""
_TOML_WHOLE = 1 << 63
_TOML_PLACE = re.compile(r"^(?P<what>.*) \(at (?P<where>.*)\)$", re.DOTALL)
_TOML_PART = r"""(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+"""
_TOML_DEEP_KEY = re.compile(rf"(?<![\w.-]){_TOML_PART}(?:\.[ \t]*+{_TOML_PART}){{{DEEPEST}}}")
"""A dotted key of too many parts. tomllib takes time and memory with the square of their number."""
_JSON_TEXT = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"(\s*+:)?', re.DOTALL)
_LONG_NUMBER = re.compile(rf"[0-9]{{{LONGEST_NUMBER + 1}}}")
_JSON_NUMBER = re.compile(r"[0-9.eE+-]{3,}+|-[6-9]")
"""A number that is an object of its own; Python has the small whole ones once."""
_WEIGHTS = {"{": 131, "[": 88, ",": 9, ":": 22}
"""Sign of JSON → bytes that Python takes for it: an object with its first keys, a list with its first places, a place
in a list, and a place in an object."""
_SHORT = 8
"""Characters of what stands between two texts so often that its weight is kept."""
_NUMBER, _SHORT_TEXT, _NEW_KEY = 32, 80, 66
"""Bytes of a number, of a text beside its letters, and of a key in the parser's list of those it has met."""
TIMES = 9
"""Times its size that JSON may take in memory as values. It has its own size as text beside them."""
_MOST = {"{": 131, "[": 88 + _NUMBER, ",": 9 + _NUMBER, ":": 22 + _NUMBER + _NEW_KEY, '"': _SHORT_TEXT // 2}
"""Sign of JSON → the most bytes for it and a value that follows it."""
_NAMED = 4 * MIB
"""Letters of a text in which a key that stands twice is named. In more, that would take too much memory."""
_ROOM = 64 * MIB
"""Bytes that any document may take in memory."""


class RepeatedKey(ValueError):
    """JSON in which a key stands twice in one object, so that one of its values would be lost."""

    def __init__(self, key: str | None = None) -> None:
        super().__init__(f"{'a key' if key is None else f'the key {key!a}'} stands twice in one object")


def parse_json(data: str | bytes, *, whole: bool = False, finite: bool = False) -> Any:
    """The value of a JSON text, in UTF-8, UTF-16 or UTF-32 where it is bytes.

    Args:
        data: the text.
        whole: whether a key that an object has twice is an error; else the last one holds.
        finite: whether `NaN` and `Infinity`, which Python reads and JSON has not, are errors.

    Raises:
        RepeatedKey: an object has a key twice, and `whole` is set.
        ValueError: not JSON, not Unicode, too deep, or with too long a number.
        TooHeavy: it takes more than 10 times its size in memory, text and values together, and the values more than
            64 MiB.
    """
    text = data if isinstance(data, str) else _decoded(data)
    if sum(_MOST.values()) * len(text) > _ROOM and _most_weight(text) > _ROOM:
        size = len(text.encode("utf-8", "surrogatepass")) if isinstance(data, str) else len(data)
        check_weight([text], (TIMES + 1) * size - sys.getsizeof(text) - (0 if isinstance(data, str) else size))
    short = len(text) <= _NAMED
    try:
        value = _loads(text, _unrepeated if whole and short else None, _no_constant if finite else None)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    if text.count("[") + text.count("{") > DEEPEST:
        _check_depth(value)
    if whole and not short and sum(1 for quoted in _JSON_TEXT.finditer(text) if quoted[1]) > _keys(value):
        raise RepeatedKey
    return value


def _decoded(data: bytes) -> str:
    encoding = json.detect_encoding(data)
    try:
        return data.decode(encoding, "surrogatepass")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is no {encoding.upper()}") from error


def read_json(path: Path, largest: int = RECORD, *, whole: bool = False, finite: bool = False) -> Any:
    """The value of a JSON file.

    Args:
        path: the file.
        largest: bytes that it may have.
        whole: as of `parse_json`.
        finite: whether every number must be finite: neither `NaN` nor `Infinity`, nor too large for a float.

    Raises:
        UsageError: as `open_regular`; `parse_json` cannot read it; or a number is not finite, and the message names its
            field.
    """
    try:
        value = parse_json(read_bytes(path, largest), whole=whole)
    except ValueError as error:
        raise UsageError(f"{shown(path)}: not JSON ({error})") from error
    if finite and (odd := next(_not_finite(value), None)) is not None:
        raise UsageError(f"{shown(path)}: {shown(odd[0])} is {odd[1]}; expected a finite number")
    return value


def _not_finite(value: Any, field: str = "") -> Iterator[tuple[str, float]]:
    """Numbers that are not finite, each with the field that holds it."""
    if isinstance(value, float) and not math.isfinite(value):
        yield field or "the value", value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _not_finite(item, f"{field}.{key}" if field else key)
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _not_finite(item, f"{field}[{place}]")


def parse_toml(text: str, file: str) -> dict[str, Any]:
    """The tables of a TOML text.

    Args:
        text: at most `SETTINGS` characters.
        file: its name in messages.

    Raises:
        UsageError: not TOML, too deep, or with a whole number beyond 64 bits; the message names file, line and column
            where they are known.
    """
    if _TOML_DEEP_KEY.search(text):
        raise UsageError(f"{file}: a key has more than {DEEPEST} parts; expected tables that are nested less deeply")
    try:
        tables = tomllib.loads(text)
        _check_depth(tables)
    except tomllib.TOMLDecodeError as error:
        match = _TOML_PLACE.match(str(error))
        what, where = (match["what"], match["where"]) if match else (str(error), "unknown place")
        raise UsageError(f"{file}, {where}: not valid TOML: {what}") from error
    except RecursionError as error:
        raise UsageError(f"{file}: not valid TOML: {_TOO_DEEP}") from error
    except ValueError as error:  # of a number with thousands of digits, too
        reason = _TOO_DEEP if str(error) == _TOO_DEEP else "a value is out of range"
        raise UsageError(f"{file}: not valid TOML: {reason}") from error
    for value in _leaves(tables):
        if isinstance(value, int) and not -_TOML_WHOLE <= value < _TOML_WHOLE:
            raise UsageError(f"{file}: not valid TOML: a whole number is beyond 64 bits")
    return tables


_TOO_DEEP = f"nested more than {DEEPEST} levels deep"


def _loads(text: str, of_pairs: Callable[..., Any] | None, of_constant: Callable[[str], Any] | None) -> Any:
    """Without a function of Python for each number where none can be too long: it would stand between two commas."""
    long = max(map(len, text.split(","))) > LONGEST_NUMBER and _LONG_NUMBER.search(text)
    whole = _whole if long else None
    return json.loads(text, parse_int=whole, object_pairs_hook=of_pairs, parse_constant=of_constant)


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise RepeatedKey(next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1))
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _whole(digits: str) -> int:
    if len(digits.lstrip("-")) > LONGEST_NUMBER:
        raise ValueError(f"a whole number of {len(digits):,} digits; expected at most {LONGEST_NUMBER}")
    return int(digits)


class TooHeavy(ValueError):
    """JSON that is small as text and large as Python's objects, such as millions of empty lists."""

    def __init__(self) -> None:
        super().__init__("so many lists and objects in so little text that they take more than 10 times its size")


def check_weight(texts: Iterable[str], allowed: int) -> None:
    """Check what the values of JSON texts take in memory together.

    Raises:
        TooHeavy: it is more than the bytes allowed, and more than 64 MiB.
    """
    allowed, total = max(_ROOM, allowed), 0
    for text in texts:
        most = _most_weight(text)
        total += most if most <= TIMES * len(text) else _weight(text, allowed - total)
        if total > allowed:
            raise TooHeavy


def _most_weight(text: str) -> int:
    letters = 4 * len(text) if "\\u" in text else sys.getsizeof(text)
    return letters + sum(weight * text.count(sign) for sign, weight in _MOST.items())


def _weight(text: str, enough: int) -> int:
    """Bytes of a text's values in memory, counted until they are more than enough."""
    total, at, keys = 0, 0, set[str]()
    for quoted in _JSON_TEXT.finditer(text):
        start = quoted.start()
        total += _short_weight(text[at:start]) if start - at <= _SHORT else _bare_weight(text, at, start)
        at = quoted.end()
        written = quoted[0]
        if not quoted[1]:
            total += _text_weight(written)
        elif written in keys:
            total += _WEIGHTS[":"]
        else:
            keys.add(written)
            total += _WEIGHTS[":"] + _text_weight(written) + _NEW_KEY
        if total > enough:
            return total
    return total + _bare_weight(text, at, len(text))


def _bare_weight(text: str, start: int, end: int) -> int:
    """Bytes of what stands between texts."""
    signs = sum(weight * text.count(sign, start, end) for sign, weight in _WEIGHTS.items())
    return signs + (_NUMBER * sum(1 for _ in _JSON_NUMBER.finditer(text, start, end)) if end - start > 2 else 0)


@lru_cache(1 << 12)
def _short_weight(signs: str) -> int:
    return _bare_weight(signs, 0, len(signs))


def _text_weight(written: str) -> int:
    if len(written) == 3 and written < '"\u0100':
        return 0  # Python has every letter of Latin-1 once
    return _SHORT_TEXT + 4 * len(written) if "\\u" in written else sys.getsizeof(written)


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST):
        level = [item for one in level for item in _items(one) if isinstance(item, dict | list)]
        if not level:
            return
    raise ValueError(_TOO_DEEP)


def _items(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _keys(value: Any) -> int:
    """How many keys all objects have together."""
    total, level = 0, [value]
    while level:
        total += sum(len(one) for one in level if isinstance(one, dict))
        level = [item for one in level for item in _items(one) if isinstance(item, dict | list)]
    return total


def _leaves(value: Any) -> Iterator[Any]:
    level = [value]
    while level:
        yield from (one for one in level if not isinstance(one, dict | list))
        level = [item for one in level for item in _items(one)]
