"""Conversion of records to JSON and back."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any, Self

import cattrs
from cattrs.preconf.json import make_converter

from capvec.errors import UsageError
from capvec.reading import shown

_LONGEST = 600
"""Characters of the reasons in a message."""


def _whole(value: Any, _: type[int]) -> int:
    """A whole number, which JSON may write as 3.0. By itself the converter would read 3.5 as 3, and true as 1."""
    if type(value) is int:  # nearly every one; the checks below are slow
        return value
    if not _is_number(value) or int(value) != value:
        raise ValueError(f"{reprlib.repr(value)}: expected a whole number")
    return int(value)


def _number(value: Any, _: type[float]) -> float:
    if type(value) is float:
        return value
    if not _is_number(value):
        raise ValueError(f"{reprlib.repr(value)}: expected a number")
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _text(value: Any, _: type[str]) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{reprlib.repr(value)}: expected a text")
    return value


def _switch(value: Any, _: type[bool]) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{reprlib.repr(value)}: expected true or false")
    return value


_converter = make_converter(forbid_extra_keys=True)
_converter.register_structure_hook(int, _whole)
_converter.register_structure_hook(float, _number)
_converter.register_structure_hook(str, _text)
_converter.register_structure_hook(bool, _switch)
_converter.register_structure_hook(Path, lambda value, _: Path(value))
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
        except (cattrs.BaseValidationError, cattrs.StructureHandlerNotFoundError, TypeError, ValueError) as error:
            reasons = shown("; ".join(cattrs.transform_error(error, path=cls.__name__)))
            raise UsageError(f"not a {cls.__name__} record: {reasons[:_LONGEST]}") from error
