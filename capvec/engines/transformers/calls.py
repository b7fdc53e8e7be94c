"""Steer a model's own forward passes, such as those of `generate`, with receipts.

The engine makes its own forward passes and knows their tokens. Here other code makes them, so pre-hooks on the module
that holds the decoder blocks, and on the modules around it, read the arguments of each pass.

* Padding is where `attention_mask`, 2-D as in `generate`, is 0. Without a mask no position is padding.
* A pass over one token that continues a cache filled by an earlier pass of the block counts as generated. Every other
  pass counts as a prompt. Without a cache, each pass of `generate` holds the whole text, so all of it is prompt.
* A *call* is a prompt and the generated tokens after it. Each row of its batch has its own receipts and is checked as a
  reply of the engine is.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, overload
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from capvec.engines.transformers import hooks
from capvec.engines.transformers.hooks import Accumulators, accumulators
from capvec.engines.transformers.models import find_residual_path
from capvec.errors import SteeringFault, UsageError
from capvec.receipts import check_finite, check_receipts, closed_forms
from capvec.records import Config, Reply
from capvec.steering import BlockLayout, Receipt, Steer, vector_hash


@contextmanager
def steer_calls(model: Any, steers: Sequence[Steer], vectors: Sequence[NDArray[np.float32]]) -> Iterator[Receipts]:
    """Steer every forward pass of `model` inside the block, and check the receipts at its end.

    Blocks nest: the steers of all open blocks apply together. One thread at a time may use the model.

    Args:
        model: any decoder-only model of transformers whose decoder blocks `find_residual_path` finds; a PEFT model too.
        steers: to apply.
        vectors: v_L of each steer, float32 `[d_model]`.

    Yields:
        The receipts so far: one for each steer of this block, each row and each call.

    Raises:
        UsageError: the blocks of the model are not found, or `attention_mask` is not 2-D in a forward pass.
        SteeringFault: at the end of the block, if the model was not steered as asked or not called.
    """
    root, path = _base(model), residual_path(model)
    parent = root.get_submodule(path.name.rpartition(".")[0])
    asked = _Asked(tuple(steers), tuple(vectors))
    session = _sessions.get(parent) or _Session(root, parent, path)
    with session.joined(asked):
        receipts = Receipts(session, asked)
        yield receipts
        receipts.check()
        for call in asked.calls:
            call.close()


def residual_path(model: Any) -> hooks.ResidualPath:
    """The decoder blocks of a loaded model.

    Raises:
        UsageError: not a decoder-only model of transformers, or its blocks are not found.
    """
    config: Any = getattr(model, "config", None)
    if not isinstance(model, nn.Module) or not hasattr(config, "get_text_config"):
        raise UsageError(
            f"cannot steer an object of type {type(model).__name__}; expected a model of transformers, as "
            "AutoModelForCausalLM.from_pretrained loads it"
        )
    if config.is_encoder_decoder:
        raise UsageError(f"cannot steer {type(model).__name__}, an encoder-decoder; expected a decoder-only model")
    return find_residual_path(_base(model), int(config.get_text_config(decoder=True).num_hidden_layers))


def _base(model: Any) -> Any:
    """The model of transformers inside a PEFT model; any other model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


class Receipts(Sequence[Receipt]):
    """The receipts of one block, by call, then row, then steer."""

    def __init__(self, session: _Session, asked: _Asked) -> None:
        self._session, self._asked = session, asked
        self._passes_before = session.passes

    def check(self) -> None:
        """Check every call so far, as a sweep checks its replies; the end of the block does so too.

        Raises:
            SteeringFault: a call was not steered as asked, a steer applied to no position, or there was no call.
        """
        calls = self._asked.calls
        steered = sum(call.forwards for call in calls)
        if not calls or steered < self._session.passes - self._passes_before:
            raise SteeringFault(
                f"{steered} forward passes were steered of {self._session.passes - self._passes_before} that the model "
                "made in the block; expected one or more, all steered: was this model called, and are its hooks intact?"
            )
        for call in calls:
            call.check(self._session.layout)
        for index, steer in enumerate(self._asked.steers):
            if not any(receipt.steered for receipt in self[index :: len(self._asked.steers)]):
                raise SteeringFault(
                    f"the steer of layer {steer.layer} at positions {steer.positions!r} applied to no position; "
                    "without a cache (use_cache=False) nothing counts as generated"
                )

    @overload
    def __getitem__(self, index: int) -> Receipt: ...
    @overload
    def __getitem__(self, index: slice) -> list[Receipt]: ...
    def __getitem__(self, index: int | slice) -> Receipt | list[Receipt]:
        return list(self)[index]

    def __iter__(self) -> Iterator[Receipt]:
        return chain.from_iterable(call.receipts_of(self._asked) for call in self._asked.calls)

    def __len__(self) -> int:
        return sum(call.batch * len(self._asked.steers) for call in self._asked.calls)

    def __repr__(self) -> str:
        return f"Receipts({list(self)!r})"


@dataclass(eq=False)
class _Asked:
    """The steers of one block, and the calls made under them."""

    steers: tuple[Steer, ...]
    vectors: tuple[NDArray[np.float32], ...]
    calls: list[_Call] = field(default_factory=list)


@dataclass(eq=False)
class _Call:
    """A prompt, and the generated tokens after it."""

    blocks: tuple[_Asked, ...]
    """The blocks that were open."""
    rows: Sequence[Accumulators]
    prompts: list[int]
    """Positions of each row's prompt, without padding."""
    cached: int = 0
    """Cached positions before the prompt."""
    cached_under: tuple[Steer, ...] = ()
    forwards: int = 0
    replies: list[Reply] | None = None
    """The result of each row; None while the call may continue."""

    @property
    def batch(self) -> int:
        return len(self.prompts)

    @property
    def steers(self) -> tuple[Steer, ...]:
        return tuple(steer for block in self.blocks for steer in block.steers)

    def close(self) -> None:
        """Turn the measurements into records and release them."""
        self.replies, self.rows = self._replies(), ()

    def _replies(self) -> list[Reply]:
        if self.replies is not None:
            return self.replies
        return [
            Reply(
                "",
                "stop",
                prompt_tokens=prompt + self.cached,
                completion_tokens=self.forwards,
                model_s=0.0,
                receipts=row.receipts(self.forwards),
                cached_tokens=self.cached,
                cached_under=self.cached_under,
                isolation=row.isolation(self.forwards),
            )
            for prompt, row in zip(self.prompts, self.rows, strict=True)
        ]

    def receipts_of(self, block: _Asked) -> Iterator[Receipt]:
        """The receipts of one block's steers."""
        start = sum(len(other.steers) for other in self.blocks[: self.blocks.index(block)])
        for reply in self._replies():
            yield from reply.receipts[start : start + len(block.steers)]

    def check(self, layout: BlockLayout) -> None:
        """Check every row against the steers of all open blocks; raises as `check_receipts` and `check_finite`."""
        vectors = [vector for block in self.blocks for vector in block.vectors]
        config = Config(
            "steer",
            "steered",
            self.steers,
            targets=closed_forms(self.steers, vectors),
            vectors=tuple(map(vector_hash, vectors)),
        )
        for reply in self._replies():
            check_finite(reply.receipts, reply.isolation)
            check_receipts(reply, config, layout)


@dataclass
class _Pass:
    """The current forward pass."""

    mask: Tensor | None = None
    """The first 2-D `attention_mask` among the modules' arguments."""
    odd_mask: Any = None
    """A mask of another shape."""
    call: _Call | None = None
    cache: Any = None
    stack: ExitStack = field(default_factory=ExitStack)


@dataclass(frozen=True)
class _Filled:
    """The positions of a cache that passes of the block filled."""

    length: int
    call: _Call


class _Session:
    """The hooks on one model while blocks are open."""

    def __init__(self, root: nn.Module, parent: nn.Module, path: hooks.ResidualPath) -> None:
        self.layout = BlockLayout(path.name, len(path.blocks))
        self.passes = 0
        """Forward passes of the whole model."""
        self._path, self._parent = path, parent
        parts = path.name.split(".")[:-1]
        self._around = [root, *(root.get_submodule(".".join(parts[: n + 1])) for n in range(len(parts)))]
        """From the whole model to the parent of the blocks."""
        self._blocks: tuple[_Asked, ...] = ()
        self._caches: WeakKeyDictionary[Any, _Filled] = WeakKeyDictionary()
        self._open: list[_Call] = []
        self._pass = _Pass()
        self._hooks = ExitStack()

    @contextmanager
    def joined(self, asked: _Asked) -> Iterator[None]:
        """Add the steers of a block; the first one installs the hooks and the last one removes them."""
        first = not self._blocks
        try:
            if first:
                self._install()
            self._blocks = (*self._blocks, asked)
            yield
        finally:
            self._blocks = tuple(block for block in self._blocks if block is not asked)
            self._finish()
            if first:
                self._hooks.close()
                _sessions.pop(self._parent, None)

    def _install(self) -> None:
        _sessions[self._parent] = self
        callback = self._hooks.callback
        for module in self._around:
            callback(module.register_forward_pre_hook(self._look, with_kwargs=True).remove)
        callback(self._parent.register_forward_pre_hook(self._begin, with_kwargs=True).remove)
        callback(self._parent.register_forward_hook(self._end, always_call=True).remove)
        if len(self._around) > 1:
            callback(self._around[0].register_forward_hook(self._count).remove)

    # ---------------------------------------------------------------------------------------- one forward pass

    def _look(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if module is self._around[0]:
            self._finish()
        mask = _named(module, args, kwargs).get("attention_mask")
        if isinstance(mask, Tensor) and mask.ndim == 2:
            self._pass.mask = mask if self._pass.mask is None else self._pass.mask
        elif mask is not None:
            self._pass.odd_mask = mask

    def _begin(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        now, given = self._pass, _named(module, args, kwargs)
        now.cache = given.get("past_key_values")
        real = self._real(given)
        length = now.cache.get_seq_length() if now.cache is not None else 0
        filled = self._caches.get(now.cache) if now.cache is not None else None
        generated = (
            filled is not None
            and filled.length == length > 0
            and filled.call.blocks == self._blocks
            and filled.call.batch == len(real)
            and bool(real.shape[1] == 1 and real.all())
        )
        if generated and filled is not None:
            now.call = filled.call
        else:
            under = filled.call.steers if filled is not None and length <= filled.length else ()
            now.call = self._new_call(real, length, under)
        now.stack.enter_context(hooks.steer(self._path, now.call.rows, real, generated=generated))

    def _new_call(self, real: Tensor, cached: int, under: tuple[Steer, ...]) -> _Call:
        kept = [filled.call for filled in self._caches.values()]
        for call in self._open:
            if call not in kept:  # its cache is gone, so nothing can continue it
                call.close()
        steers = [pair for block in self._blocks for pair in zip(block.steers, block.vectors, strict=True)]
        devices = [next(self._path.blocks[steer.layer].parameters()).device for steer, _ in steers]
        vectors = [torch.as_tensor(v.copy()).to(place) for (_, v), place in zip(steers, devices, strict=True)]
        rows = [accumulators([steer for steer, _ in steers], vectors) for _ in real]
        call = _Call(self._blocks, rows, real.sum(1).tolist(), cached, under if cached else ())
        self._open = [*(call for call in self._open if call in kept), call]
        for block in self._blocks:
            block.calls.append(call)
        return call

    def _end(self, _module: nn.Module, _args: Any, output: Any) -> None:
        now = self._pass
        if now.call is None:
            return
        if output is None:  # the pass raised, so there is no reply and its cache is incomplete
            for block in now.call.blocks:
                block.calls.remove(now.call)
            self._caches.pop(now.cache, None) if now.cache is not None else None
        else:
            now.call.forwards += 1
            cache = now.cache if now.cache is not None else getattr(output, "past_key_values", None)
            if cache is not None:
                self._caches[cache] = _Filled(cache.get_seq_length(), now.call)
        if len(self._around) == 1:
            self.passes += 1
        self._finish()

    def _count(self, *_: Any) -> None:
        self.passes += 1

    def _finish(self) -> None:
        self._pass.stack.close()
        self._pass = _Pass()

    def _real(self, given: dict[str, Any]) -> Tensor:
        """Which positions of the pass are not padding: bool `[batch, positions]`, on the CPU."""
        tokens = given.get("input_ids")
        tokens = tokens if tokens is not None else given.get("inputs_embeds")
        if tokens is None:
            raise SteeringFault(f"{type(self._parent).__name__} got neither input_ids nor inputs_embeds to steer")
        batch, width = tokens.shape[:2]
        mask = self._pass.mask
        if mask is None and self._pass.odd_mask is not None:
            shape = list(getattr(self._pass.odd_mask, "shape", ())) or type(self._pass.odd_mask).__name__
            raise UsageError(
                f"attention_mask is {shape}; expected 2-D, [batch, positions], which marks the padding: call the model "
                "with such a mask, and without a static cache"
            )
        if mask is None:
            return torch.ones(batch, width, dtype=torch.bool)
        if mask.shape[0] != batch or mask.shape[1] < width:
            raise UsageError(f"attention_mask has shape {list(mask.shape)}; expected {batch} rows of {width} or more")
        return mask[:, -width:].bool().cpu()


_sessions: WeakKeyDictionary[nn.Module, _Session] = WeakKeyDictionary()
"""The session of each model with an open block, by the module that holds its decoder blocks."""


def _named(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a forward pass by name."""
    names = list(inspect.signature(module.forward).parameters)
    return dict(zip(names, args, strict=False)) | kwargs
