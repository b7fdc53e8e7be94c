"""Conversion of records to JSON and back."""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Callable, Mapping
from numbers import Real
from pathlib import Path
from types import GenericAlias
from typing import Any, Self, get_args, get_origin, get_type_hints

import cattrs
from cattrs import BaseConverter
from cattrs.preconf.json import make_converter
from cattrs.v import format_exception

from capvec.errors import UsageError
from capvec.reading import shown

_LONGEST = 600
"""Characters of the reasons in a message."""
_WHOLE = 1 << 64
"""Beyond the whole numbers of a record: seeds of others may use all of 64 bits."""
_MOST = sys.float_info.max
_FAULTS = (cattrs.BaseValidationError, cattrs.StructureHandlerNotFoundError, TypeError, ValueError, AttributeError)
"""What the converter raises for a value of the wrong type."""


class _Unfit(ValueError):
    """A value that is not what its field holds; the message says what it is and what was expected."""

    def __init__(self, value: Any, expected: str) -> None:
        super().__init__(f"{reprlib.repr(value)}: expected {expected}")


def _whole(value: Any, _: type[int]) -> int:
    """A whole number, which JSON may write as 3.0. By itself the converter would read 3.5 as 3, and true as 1."""
    if type(value) is not int and (not _is_number(value) or int(value) != value):
        raise _Unfit(value, "a whole number")
    if not -_WHOLE < value < _WHOLE:
        raise _Unfit(value, "a whole number within 64 bits")
    return int(value)


def _number(value: Any, _: type[float]) -> float:
    if type(value) is float and -_MOST <= value <= _MOST:  # most are; the check of any number takes ten times as long
        return value
    if not _is_number(value):
        raise _Unfit(value, "a finite number")
    return float(value)


def _is_number(value: Any) -> bool:
    """Whether a value is a finite number that a float holds; Python's JSON may hold NaN and Infinity."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    number: Any = value  # the type checker knows no order of a real number and a float
    return bool(-_MOST <= number <= _MOST)


def _text(value: Any, _: type[str]) -> str:
    if not isinstance(value, str):
        raise _Unfit(value, "a text")
    return value


def _switch(value: Any, _: type[bool]) -> bool:
    if not isinstance(value, bool):
        raise _Unfit(value, "true or false")
    return value


def _is_list(hint: Any) -> bool:
    return get_origin(hint) is tuple and get_args(hint)[1:] == (...,)


def _list(hint: Any, converter: BaseConverter) -> Callable[[Any, Any], tuple[Any, ...]]:
    """By itself the converter would read a text as the list of its letters, and an object as that of its keys."""
    items = GenericAlias(list, get_args(hint)[:1])
    read = converter.get_structure_hook(items)

    def structure(value: Any, _: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise _Unfit(value, "a list")
        return tuple(read(value, items))

    return structure


_converter = make_converter(forbid_extra_keys=True)
_converter.register_structure_hook(int, _whole)
_converter.register_structure_hook(float, _number)
_converter.register_structure_hook(str, _text)
_converter.register_structure_hook(bool, _switch)
_converter.register_structure_hook(Path, lambda value, _: Path(value))
_converter.register_structure_hook_factory(_is_list, _list)
_converter.register_unstructure_hook(Path, str)


class Record:
    """Base of frozen dataclasses that convert to JSON and back without loss."""

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = _converter.unstructure(self)
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Build the record from parsed JSON.

        Raises:
            UsageError: a key is missing or unknown, or a value has the wrong type.
        """
        try:
            return _converter.structure(data, cls)
        except _FAULTS as error:
            raise UsageError(f"not a {cls.__name__} record: {_reasons(error, cls.__name__)}") from error


def check_fields(form: type, data: Any, name: str) -> None:
    """Check the values of a JSON object as far as a class annotates their keys; any of these may be missing.

    Args:
        form: a class with annotations, be it a `Record` or not.
        data: parsed JSON.
        name: of the object, for the message.

    Raises:
        UsageError: it is no object, or a value has the wrong type; the message names its field.
    """
    if not isinstance(data, dict):
        raise UsageError(f"{shown(reprlib.repr(data))}: expected an object @ {name}")
    for key, hint in get_type_hints(form).items():
        if key in data:
            try:
                _converter.structure(data[key], hint)
            except _FAULTS as error:
                raise UsageError(_reasons(error, f"{name}.{key}")) from error


def _reasons(error: BaseException, path: str) -> str:
    return shown("; ".join(cattrs.transform_error(error, path, _reason)))[:_LONGEST]


def _reason(error: BaseException, kind: type | None) -> str:
    return str(error) if isinstance(error, _Unfit | UsageError) else format_exception(error, kind)
