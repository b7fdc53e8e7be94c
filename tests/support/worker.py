"""What a worker of vLLM does between the model's blocks, without vLLM: slots, buffers and both ops, on any device."""

from __future__ import annotations

from typing import Any

import numpy as np

from capvec.engines.vllm.measured import Measured, receipts
from capvec.engines.vllm.plugin.bank import Bank
from capvec.engines.vllm.plugin.slots import Slots
from capvec.steering import Steer

LAYERS = (1, 4, 6)
"""The layers with hooks."""
N_LAYERS, CAPACITY = 8, 16


class Worker:
    """Steers given block outputs, and measures them."""

    def __init__(self, width: int, *, steers: int = 4, dtype: str = "float32", device: str = "cpu") -> None:
        import torch

        from capvec.engines.vllm.plugin import ops
        from capvec.engines.vllm.plugin.buffers import Buffers, Sizes

        self.ops: Any = ops
        if device == "cuda":
            from capvec.engines.vllm.plugin import kernels

            self.ops = kernels
        self.bank = Bank(8, LAYERS)
        self.slots = Slots(CAPACITY, LAYERS, steers, self.bank, pools=2)
        self.dtype, self.device = getattr(torch, dtype), torch.device(device)
        sizes = Sizes(CAPACITY, len(LAYERS), steers, tokens=256, directions=8, width=width, pools=2)
        self.buffers = Buffers(sizes, self.dtype, self.device)

    def put(self, vectors: np.ndarray) -> str:
        """Hold a direction, `[N_LAYERS, width]`."""
        import torch

        direction, held = self.bank.put(vectors.astype("<f4"))
        if held is not None:
            self.buffers.bank[held.row] = torch.from_numpy(held.vectors.copy()).to(self.device)
        return direction

    def open(self, request: str, steers: list[Steer], *, prompt: int, cached: int = 0, **asked: Any) -> None:
        """Begin a request."""
        import torch

        given = {"key": request, "steers": [steer.to_json() for steer in steers], **asked}
        self.slots.open(request, given, prompt=prompt, cached=cached)
        self.buffers.table.copy_(torch.from_numpy(self.slots.table))
        self.buffers.clear(torch.tensor(self.slots.opened, device=self.device))
        self.slots.opened = []
        slot = self.slots.find(request)
        one = self.slots.requests[slot]
        if one is not None and one.pool >= 0:
            self.buffers.pool(torch.tensor([slot], device=self.device), torch.tensor([one.pool], device=self.device))

    def fill(self, requests: list[str], computed: list[int], scheduled: list[int]) -> int:
        """Prepare a step; the answer is how many tokens it has. Each token's id is its position."""
        import torch

        packed = self.slots.pack(requests, np.array(computed), np.array(scheduled))
        self.buffers.steered = self.slots.steered_sites(requests).tolist()
        self.buffers.tokens.zero_()
        self.buffers.tokens[: len(packed)] = torch.from_numpy(packed).to(self.device)
        ids = [at for first, count in zip(computed, scheduled, strict=True) for at in range(first, first + count)]
        self.buffers.ids[: len(packed)] = torch.tensor(ids, dtype=torch.int32, device=self.device)
        return len(packed)

    def steer(self, site: int, states):
        """What leaves a block that put out `states`, `[tokens, width]`: the pair of tensors that sum to it."""
        import torch

        hidden = states.to(self.dtype).to(self.device).clone()
        residual = torch.zeros_like(hidden)
        self.ops.steer(self.buffers, hidden, residual, site)
        return hidden, residual

    def pass_through(self, site: int, states):
        """Steer and measure, and give what arrived."""
        hidden, residual = self.steer(site, states)
        self.ops.witness(self.buffers, hidden, residual, site)
        return (hidden + residual).cpu()

    def raw(self, request: str) -> dict[str, Any]:
        """What the worker would answer of a request."""
        slot = self.slots.find(request)
        one = self.slots.requests[slot]
        assert one is not None
        readings, watched = self.buffers.readings.cpu().numpy(), self.buffers.watched.cpu().numpy()
        names = {site: (f"layers.{layer}", f"layers.{layer + 1}") for site, layer in enumerate(LAYERS)}
        return {
            "faults": one.faults,
            "stage": 0,
            "prompt": one.prompt,
            "cached": one.cached,
            "reached": int(self.slots.reached[slot]),
            "passes": int(self.slots.passes[slot]),
            "again": int(self.slots.again[slot]),
            "watched": watched[slot].tobytes(),
            "steers": [
                {
                    "site": site,
                    "block": names[site][0],
                    "receiver": names[site][1],
                    "vector": "v",
                    "readings": readings[slot, site, place].tobytes(),
                }
                for site, place in one.entries
            ],
        }

    def captured(self, request: str) -> dict[str, Any]:
        """What the worker would answer of what it captured."""
        one = self.slots.requests[self.slots.find(request)]
        assert one is not None
        sums, counts = self.buffers.pooled[one.pool].cpu(), self.buffers.counted[one.pool].cpu()
        mean = (sums / counts[:, None]).float().numpy()
        return {
            "faults": [],
            "stage": 0,
            "layers": [0, 1, 2],
            "positions": counts.int().tolist(),
            "residuals": mean.tobytes(),
        }

    def measured(self, request: str, *, completion_tokens: int) -> Measured:
        """The receipts of a request."""
        slot = self.slots.find(request)
        one = self.slots.requests[slot]
        assert one is not None
        return receipts(one.steers, [self.raw(request)], **self.tokens(request, completion_tokens))

    def tokens(self, request: str, drawn: int) -> dict[str, list[int]]:
        """The tokens of a request from which so many were drawn, as `measured.receipts` takes them."""
        one = self.slots.requests[self.slots.find(request)]
        assert one is not None
        return {"prompt": list(range(one.prompt)), "drawn": list(range(one.prompt, one.prompt + drawn))}
