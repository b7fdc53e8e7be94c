"""The metadata of a direction: the same fields, as text, in every file format.

| field | text |
|---|---|
| `model` | the model that the direction was built from, as its engine named it |
| `revision` | the hub's commit, or a digest of the model's folder |
| `layer_convention` | what row L stands for; capvec writes `LAYER_CONVENTION` |
| `layer` | the layer to steer, in decimal digits: the best of its ranking, or the author's choice |
| `contrast` | the policy that chose the traces, such as `same-model` |
| `thresholds` | the thresholds of the contrast and its audit, such as `confound-p=0.05`, separated by spaces |
| `contrast_hash` | content hash of the contrast: the policy and the conversations of both classes |
| `estimator` | such as `mean-difference` |
| `pooling` | the tokens of a trace at which the residuals were taken, such as `last` |
| `norms` | ‖v_L‖ of every layer, a JSON list; for human readers, never read back |
| `capvec` | the version of capvec that built it |

An unknown field is left out. A safetensors file keeps the fields in its header (`__metadata__`), a `.pt` file in a
dictionary under `metadata`, and a GGUF file as strings whose keys are `capvec.` and the name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from capvec.errors import UsageError
from capvec.serial import Record

LAYER_CONVENTION = "output of decoder block L, counted from 0"


@dataclass(frozen=True)
class Metadata(Record):
    """Where a direction comes from; an unknown field is an empty text, or None."""

    model: str = ""
    revision: str = ""
    layer_convention: str = ""
    layer: int | None = None
    contrast: str = ""
    contrast_hash: str = ""
    estimator: str = ""
    pooling: str = ""
    capvec: str = ""
    thresholds: str = ""

    def header(self, norms: Sequence[float]) -> dict[str, str]:
        """The known fields as text.

        Args:
            norms: ‖v_L‖ of every layer.
        """
        known = {name: str(value) for name, value in self.to_json().items() if value not in {"", None}}
        return known | {"norms": json.dumps([round(float(norm), 6) for norm in norms])}

    @classmethod
    def from_header(cls, header: Mapping[str, str]) -> Self:
        """Read the fields that `header` wrote; other names are ignored.

        Raises:
            UsageError: `layer` is not a whole number of at least 0.
        """
        fields = {name: header[name] for name in cls.__dataclass_fields__ if name in header and name != "layer"}
        layer = header.get("layer")
        if layer is not None and not re.fullmatch("[0-9]{1,18}", layer):
            raise UsageError(
                f"the direction's file names layer {layer[:40]!r}; expected the number of a decoder block, from 0"
            )
        return cls(**fields, layer=int(layer) if layer is not None else None)
