"""The Triton kernels do on a CUDA device what the ops do on a CPU, and measure the same."""

from __future__ import annotations

import numpy as np
import pytest
from support.worker import LAYERS, N_LAYERS, Worker

from capvec.engines.vllm.layout import READINGS, WATCHED
from capvec.steering import Steer

pytestmark = pytest.mark.gpu

ROUGH = {"error_max", "off_axis_max"}
"""What rounding itself measures: nearly nothing, and its digits depend on the order of additions."""
REQUESTS, PROMPT = 12, 20
STEPS = ((0, 6), (6, 10), (16, 4), (20, 1), (21, 1), (18, 5))


def steers_of(random, directions, most):
    """Any operations, positions and strengths at any layers; two directions are parallel, one is zero at a layer."""
    return [
        Steer(
            layer,
            str(random.choice(directions)),
            1.0 if op == "ablate" else float(random.choice([0.0, -2.5, 1.0, 4.0])),
            op,
            str(random.choice(["all", "prompt", "generated", "assistant"])),
            bool(random.random() < 0.3),
        )
        for layer in LAYERS
        for op in random.choice(["add", "ablate", "set"], size=random.integers(0, most + 1)).tolist()
    ]


@pytest.fixture(scope="module")
def cuda(torch):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    pytest.importorskip("triton")


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(("width", "most"), [(160, 1), (160, 4), (2560, 1), (2560, 4)])
@pytest.mark.parametrize("few", [512, 0], ids=["at once", "apart"])
def test_kernels_steer_and_measure_as_the_ops_on_the_cpu_do(torch, monkeypatch, dtype, width, most, few):
    from capvec.engines.vllm.plugin import kernels

    monkeypatch.setattr(kernels, "FEW", few)
    random = np.random.default_rng(0)
    vectors = random.normal(size=(3, N_LAYERS, width)) * 3 / width**0.5
    vectors[2] = vectors[0] * 2
    vectors[1, LAYERS[0]] = 0
    workers = [Worker(width, steers=most, dtype=dtype, device=device) for device in ("cpu", "cuda")]
    _, names = ([worker.put(one) for one in vectors] for worker in workers)
    requests = [f"request {number}" for number in range(REQUESTS)]
    for request in requests:
        steers = steers_of(random, names, most)
        for worker in workers:
            worker.open(request, steers, prompt=PROMPT, assistant=[[3, 9]])
    for computed, scheduled in STEPS:
        generator = torch.Generator().manual_seed(computed)
        states = (torch.randn(scheduled * REQUESTS, width, generator=generator) * 3).to(workers[0].dtype)
        for worker in workers:
            worker.fill(requests, [computed] * REQUESTS, [scheduled] * REQUESTS)
        for site in range(len(LAYERS)):
            arrived = [worker.pass_through(site, states).double() for worker in workers]
            eps, normal = (getattr(torch.finfo(workers[0].dtype), name) for name in ("eps", "smallest_normal"))
            # Below the smallest normal number, neighbours are as far apart as just above it.
            torch.testing.assert_close(arrived[0], arrived[1], rtol=1.01 * eps, atol=max(1e-12, 1.01 * eps * normal))
    on_cpu, on_cuda = ([worker.buffers.readings.cpu(), worker.buffers.watched.cpu()] for worker in workers)
    assert (on_cpu[1][1:, :, : WATCHED.index("leak") + 1] == on_cuda[1][1:, :, : WATCHED.index("leak") + 1]).all()
    for name, mine, theirs in zip(READINGS, on_cpu[0][1:].unbind(-1), on_cuda[0][1:].unbind(-1), strict=True):
        # In a position that is just between two numbers of 16 bits, the devices may round to unlike ones.
        tolerance = {"rtol": 0.5, "atol": 0.2} if name in ROUGH else {"rtol": 1e-5, "atol": max(1e-5, eps)}
        torch.testing.assert_close(mine, theirs, **tolerance, msg=lambda said, name=name: f"{name}: {said}")
