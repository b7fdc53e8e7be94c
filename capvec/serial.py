"""Conversion of records to JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import cattrs
from cattrs.preconf.json import make_converter

from capvec.errors import UsageError
from capvec.reading import shown

_LONGEST = 600
"""Characters of the reasons in a message."""
_converter = make_converter(forbid_extra_keys=True)
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
