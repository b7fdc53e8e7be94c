"""What a direction's file says about the direction: the same fields, as text, in every format.

| field | text |
|---|---|
| `model` | the model that it was built from, as its engine called it |
| `revision` | the hub's commit, or a digest of the model's folder |
| `layer_convention` | what row L stands for; capvec writes `LAYER_CONVENTION` |
| `layer` | the layer that the file stands for, as decimal digits: the best of its ranking, or its author's choice |
| `contrast` | the policy that chose the traces, such as `same-model` |
| `thresholds` | numbers that the contrast and its audit go by, such as `confound-p=0.05`, separated by spaces |
| `contrast_hash` | content hash of the contrast: the policy and the conversations of both classes |
| `estimator` | such as `mean-difference` |
| `pooling` | which tokens of a trace the residuals are taken at, such as `last` |
| `norms` | ‖v_L‖ of every layer, a JSON list; written for people, never read back |
| `capvec` | the version that built it |

A field that is not known is left out. Safetensors keeps them in its header (`__metadata__`), `.pt` in a dictionary
under `metadata`, and GGUF as strings under `capvec.` and the name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from capvec.errors import UsageError
from capvec.serial import Record

LAYER_CONVENTION = "output of decoder block L, counted from 0"


@dataclass(frozen=True)
class Metadata(Record):
    """Where a direction comes from; an empty text stands for what is not known."""

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
        """The fields that are known, as text.

        Args:
            norms: ‖v_L‖ of every layer.
        """
        known = {name: str(value) for name, value in self.to_json().items() if value not in {"", None}}
        return known | {"norms": json.dumps([round(float(norm), 6) for norm in norms])}

    @classmethod
    def from_header(cls, header: Mapping[str, str]) -> Self:
        """Read the fields that `header` wrote; names that it does not have are another's, and are left alone.

        Raises:
            UsageError: `layer` is no whole number.
        """
        fields = {name: header[name] for name in cls.__dataclass_fields__ if name in header and name != "layer"}
        layer = header.get("layer")
        if layer is not None and not layer.isdecimal():
            raise UsageError(f"the direction's file names layer {layer!r}; expected a decoder block, from 0")
        return cls(**fields, layer=int(layer) if layer is not None else None)
