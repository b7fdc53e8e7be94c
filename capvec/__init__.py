"""capvec: does this steering vector make the model better at the task, or does it only change how the model talks?

The public API loads on first use, so that `import capvec` imports neither torch nor pandas nor SciPy:

* `Direction`: one vector per layer; `Direction.read` and `Direction.save` for its files.
* `estimate_direction`: a direction from residuals and labels.
* `steer`: steer any model of transformers inside a `with` block, with receipts.
* `validate`: rank the layers of a direction against a permutation null.
* `read_run`: the trials of a run folder as a DataFrame.
* `judge`: a verdict on each config from outcomes alone, which `trial_outcome` makes.
* `SteeringFault`, `UsageError`: the instrument failed; the input was wrong.

From a direction file to a receipt:

    import capvec
    direction = capvec.Direction.read("dir.pt")
    with capvec.steer(model, direction, layer=22, alpha=4.0) as receipts:
        model.generate(**tokenizer("Hello", return_tensors="pt"), max_new_tokens=16)
    print(receipts[0].shift_mean)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from capvec.directions.direction import Direction
    from capvec.directions.estimate import estimate_direction
    from capvec.directions.steer import steer
    from capvec.directions.validate import validate
    from capvec.errors import SteeringFault, UsageError
    from capvec.results.judge import judge, trial_outcome
    from capvec.results.table import read_run

__version__ = "0.1.0"
__all__ = [
    "Direction",
    "SteeringFault",
    "UsageError",
    "__version__",
    "estimate_direction",
    "judge",
    "read_run",
    "steer",
    "trial_outcome",
    "validate",
]

_MODULES = {
    "Direction": "directions.direction",
    "SteeringFault": "errors",
    "UsageError": "errors",
    "estimate_direction": "directions.estimate",
    "judge": "results.judge",
    "read_run": "results.table",
    "steer": "directions.steer",
    "trial_outcome": "results.judge",
    "validate": "directions.validate",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
