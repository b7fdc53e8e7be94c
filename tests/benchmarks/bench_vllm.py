"""What steering costs in vLLM at the flagship's size on a GPU.

Qwen3.5-4B's shape with random weights in bfloat16 (`shape=dense`: Qwen3-4B's). Several engines hold it at once and take
turns, each in processes of its own: vLLM without the plugin (`bare`), vLLM as capvec starts it (`all`: every block can
be steered), with four blocks declared (`four`), in batch-invariant mode (`invariant`), and with a copy of the model on
each of two GPUs (`two`). `engines` chooses among them. Every row has a steer of its own, and the receipts of every
reply are checked. It needs vLLM and room for a copy of the model in each engine. `parts` chooses among:

* `peer`: `generate` of transformers, alone on the card, before the engines start.
* `decode`: milliseconds of a step in which all rows draw a token, tokens a second from the first prompt to the last
  receipt, and milliseconds from the time at which vLLM's scheduler had a row's last token to its receipts (median, and
  the slowest row). Without the plugin it is the time to the tokens, which vLLM takes by itself.
* `alike`: greedy tokens of nine rows in a batch, in the same batch again, and alone.
* `turns`: conversations of three turns, each of which adds about 200 tokens, with and without reuse of what is cached.
* `capture`: prompts whose residuals are pooled at every layer, against the same prompts without.
* `parallel`: every row steered, one copy of the model on one GPU against two copies on two (`two` among the engines):
  the same number of rows for each copy, and the same number in all.
* `serve`: `capvec serve --engine vllm` with the compile cache of the engines before: seconds to start, then requests
  over HTTP.
* `cold`: the same command with an empty compile cache.

`args` are vLLM's, as JSON, such as `{"enable_prefix_caching": true}`, which `turns` needs for Qwen3.5. What is printed
are medians of all rounds; `model`, `logs` and `within` are folders and seconds after which no other part begins.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.benchmarks import Benchmark
from support.flagship import time_generate, time_saving
from support.timed_vllm import LENGTH, TimedEngine

pytestmark = [pytest.mark.bench, pytest.mark.gpu, pytest.mark.vllm]

PARTS = ("peer", "decode", "alike", "turns", "capture", "serve", "cold")
CAPTURED, CAPTURED_TOKENS = 16, 2048
STARTED = time.monotonic()


class Results:
    """What was measured, by key, each also in the benchmark's file."""

    def __init__(self, bench: Benchmark) -> None:
        self._bench = bench
        self.measured: dict[str, list[Any]] = {}

    def say(self, line: str) -> None:
        self._bench.say(line)

    def add(self, key: str, value: Any) -> None:
        self.measured.setdefault(key, []).append(value)
        self._bench.keep(key=key, value=value)

    # ------------------------------------------------------------------------------------------------ transformers


def peer(options: SimpleNamespace, results: Results) -> None:
    rows = [count for count in options.rows if count <= 32]
    for one in in_a_process(time_generate, rows, options.prompt, options.new, options.rounds):
        results.add(f"generate, {one['rows']} rows", one)
    for count in rows:
        found = results.measured[f"generate, {count} rows"]
        step = median((one["all"] - one["first"]) / (options.new - 1) for one in found)
        end = median(count * options.new / one["all"] for one in found)
        results.say(
            f"generate, {count:3} rows: {1000 * step:7.2f} ms a step, {count / step:8.1f} tokens/s, {end:8.1f} in all"
        )


def in_a_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Its result; what it held of the GPU is free afterwards."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


# ------------------------------------------------------------------------------------------------ engines in turn


def modes(engines: list[TimedEngine], n_layers: int) -> dict[str, tuple[TimedEngine, list[int]]]:
    """Each engine without a steer, and those with the plugin under one and under four."""
    found: dict[str, tuple[TimedEngine, list[int]]] = {}
    for engine in engines:
        found[f"{engine.name}, unsteered"] = engine, []
        if engine.plugin:
            found[f"{engine.name}, 1 layer"] = engine, four(n_layers)[2:3]
            found[f"{engine.name}, 4 layers"] = engine, four(n_layers)
    return found


def four(n_layers: int) -> list[int]:
    """Four layers, evenly spread."""
    return [n_layers * quarter // 4 for quarter in range(4)]


def by_turns(kinds: Any, rounds: int) -> Any:
    """Every kind in each round; every other round backwards."""
    for turn in range(rounds):
        yield from list(kinds.items())[:: -1 if turn % 2 else 1]


def decode(options: SimpleNamespace, results: Results, engines: list[TimedEngine], n_layers: int) -> None:
    kinds = modes(engines, n_layers)
    size = {"prompt": options.prompt, "new": options.new}
    for rows in options.rows:
        for engine in engines:
            layers = four(n_layers) if engine.plugin else []
            engine.ask("decode", rows=rows, layers=layers, **(size | {"new": 4}))
        for name, (engine, layers) in by_turns(kinds, options.rounds):
            results.add(f"decode, {rows} rows, {name}", engine.ask("decode", rows=rows, layers=layers, **size))
        base = None
        for name in kinds:
            found = results.measured[f"decode, {rows} rows, {name}"]
            step = typical(found, "step_ms")
            base = base or step
            waits = [median(one["receipts_ms"][at] for one in found) for at in (0, 1)]
            waited = "receipts" if kinds[name][0].plugin else "tokens"
            results.say(
                f"decode, {rows:3} rows, {name:16}: {step:7.3f} ms a step ({step / base:.3f}), "
                f"{1000 * rows / step:8.1f} tokens/s, {typical(found, 'tokens_s'):8.1f} in all, "
                f"{waited} after {waits[0]:5.2f} ms, the last {waits[1]:5.2f}" + trouble(found)
            )


def typical(found: list[dict[str, Any]], what: str) -> float:
    """The median of those that have it."""
    return median([one[what] for one in found if one[what] is not None] or [float("nan")])


def trouble(found: list[dict[str, Any]]) -> str:
    """What makes the figures less than they seem."""
    faults = [fault for one in found for fault in one["faults"]]
    preempted = sum(one["preempted"] for one in found)
    return (f"; {preempted} preempted" if preempted else "") + (f"; NOT AS ASKED: {faults[0]}" if faults else "")


def alike(_: SimpleNamespace, results: Results, engines: list[TimedEngine], n_layers: int) -> None:
    for name, (engine, layers) in modes([one for one in engines if one.name != "four"], n_layers).items():
        found = engine.ask("alike", layers=layers)
        results.add(f"alike, {name}", found)
        results.say(f"alike, {name:16}: of {found['of']} rows {found['again']} again, {found['alone']} alone")


def turns(options: SimpleNamespace, results: Results, engines: list[TimedEngine], n_layers: int) -> None:
    size = {"rows": min(32, max(options.rows)), "prompt": options.prompt, "new": options.new}
    kinds = modes(engines[:2], n_layers)
    for name, (engine, layers) in by_turns(kinds, options.rounds):
        results.add(f"turns, {name}", engine.ask("turns", layers=layers, **size))
    for name in (next(iter(kinds)), *(one for one in kinds if one.endswith(", 1 layer"))):
        engine, layers = kinds[name]
        results.add(f"turns, {name}, nothing reused", engine.ask("turns", layers=layers, reuse=False, **size))
    for key, found in results.measured.items():
        if key.startswith("turns"):
            each = [[run[turn] for run in found] for turn in range(len(found[0]))]
            seconds = " ".join(f"{typical(one, 'seconds'):6.3f}" for one in each)
            cached = " ".join(f"{typical(one, 'cached'):4.0f}" for one in each)
            steps = " ".join(f"{typical(one, 'step_ms'):6.3f}" for one in each)
            every = [one for run in found for one in run]
            results.say(f"{key:38}: {seconds} s a turn, {cached} tokens reused, {steps} ms a step" + trouble(every))


def capture(options: SimpleNamespace, results: Results, engines: list[TimedEngine], _: int) -> None:
    length = min(CAPTURED_TOKENS, 4 * options.prompt)
    kinds: dict[str, tuple[TimedEngine, int]] = {f"{engine.name}, plain": (engine, 0) for engine in engines[:2]}
    steered = engines[1]
    kinds |= {f"{steered.name}, last 64": (steered, 64), f"{steered.name}, every position": (steered, length)}
    for name, (engine, pooled) in by_turns(kinds, options.rounds + 1):
        results.add(f"capture, {name}", engine.ask("prefill", rows=CAPTURED, prompt=length, pooled=pooled))
    plain = 0.0
    for name in kinds:
        found = results.measured[f"capture, {name}"][1:]  # the first warms up
        speed = median(one["tokens"] / one["seconds"] for one in found)
        plain = plain or speed
        results.say(f"capture, {CAPTURED} × {length} tokens, {name:20}: {speed:9.0f} tokens/s ({speed / plain:.3f})")


def parallel(options: SimpleNamespace, results: Results, engines: list[TimedEngine], n_layers: int) -> None:
    one, two = (next(engine for engine in engines if engine.name == name) for name in ("all", "two"))
    size = {"prompt": options.prompt, "new": options.new, "layers": four(n_layers)[2:3]}
    for rows in options.rows:
        kinds = {
            f"one GPU, {rows} rows": (one, rows),
            f"two GPUs, {2 * rows} rows": (two, 2 * rows),
            f"two GPUs, {rows} rows": (two, rows),
        }
        for name, (engine, count) in by_turns(kinds, options.rounds + 1):
            results.add(f"parallel, {name}", engine.ask("decode", rows=count, **size))
        base = 0.0
        for name in kinds:
            found = results.measured[f"parallel, {name}"][1:]  # the first warms up
            speed = typical(found, "tokens_s")
            base = base or speed
            waits = median(run["receipts_ms"][0] for run in found)
            results.say(
                f"parallel, {name:20}: {speed:9.1f} tokens/s in all ({speed / base:.3f}), receipts after {waits:.2f} ms"
                + trouble(found)
            )


# ------------------------------------------------------------------------------------------------ over HTTP


@contextmanager
def serving(folder: Path, args: dict[str, Any], log: Path, **environment: str) -> Any:
    """`capvec serve`: its address, its token, and the seconds until it said so."""
    command = [sys.executable, "-c", "from capvec.commands.main import main; raise SystemExit(main())", "serve"]
    command += ["--model", str(folder), "--engine", "vllm", "--port", "0", "--log", str(log)]
    for key, value in args.items():
        command += ["--engine-arg", f"{key}={json.dumps(value)}"]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | environment)
    try:
        said = ""
        while "--base-url" not in said and (line := process.stdout.readline()):
            said += line
        seconds = time.perf_counter() - started
        found = re.search(r"CAPVEC_ENGINE_TOKEN=(\S+) .*--base-url (\S+)", said)
        if found is None:
            tail = log.read_text(errors="replace")[-3000:] if log.exists() else ""
            raise RuntimeError(f"capvec serve said {said!r}; its engine's log ends in:\n{tail}")
        yield found[2], found[1], seconds
    finally:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.stdout.close()


def serve(options: SimpleNamespace, results: Results) -> None:
    import safetensors.numpy
    from support.checked import asked

    from capvec.engines.client import EngineClient
    from capvec.receipts import check_receipts
    from capvec.steering import Steer

    with serving(options.model, options.args, options.out / "serve.log") as (url, token, seconds):
        results.add("start with a warm cache", seconds)
        results.say(f"capvec serve, compile cache warm: {seconds:.1f} s")
        with EngineClient(url, token) as client:
            info = client.health()
            noise = np.random.default_rng(0).standard_normal((info.n_layers, info.d_model))
            vectors = (noise * LENGTH / info.d_model**0.5).astype(np.float32)
            key = client.put_direction(safetensors.numpy.save({"directions": vectors})).hash
            results.say(f"health: {info.architecture}, {info.backend}, {info.dtype}, {info.device}")

            def ask(row: int, *, shown: bool = False) -> float:
                steers = [Steer(info.n_layers // 2, key, 0.5 + row / 64)]
                messages = [{"role": "user", "content": f"{row} {time.time()} " + "hello " * (options.prompt // 6 - 8)}]
                begun = time.perf_counter()
                reply = client.complete(messages, seed=row, max_tokens=options.new, temperature=0.7, steers=steers)
                took = time.perf_counter() - begun
                check_receipts(reply, asked(steers, [vectors[steers[0].layer]]), info.layout)
                if shown:
                    one = reply.receipts[0]
                    expected = steers[0].alpha * np.linalg.norm(vectors[steers[0].layer])
                    shift = f"shift {one.shift_mean:.4f} where {expected:.4f} was asked for"
                    results.say(
                        f"a receipt: {shift}, {one.steered} positions steered, {one.passed} passed, at {one.block}"
                    )
                return took

            ask(0, shown=True)
            for rows in options.rows:
                with ThreadPoolExecutor(rows) as pool:
                    begun = time.perf_counter()
                    took = list(pool.map(ask, range(rows)))
                    whole = time.perf_counter() - begun
                results.add(f"http, {rows} rows", {"seconds": whole, "median": median(took)})
                results.say(
                    f"HTTP, {rows:3} rows, receipts checked: {whole:.3f} s, {rows * options.new / whole:.1f} tokens/s"
                )


def cold(options: SimpleNamespace, results: Results) -> None:
    with serving(options.model, options.args, options.out / "cold.log", **caches(options.out / "cold")) as found:
        results.add("start with a cold cache", found[2])
        results.say(f"capvec serve, compile cache cold: {found[2]:.1f} s")


def caches(folder: Path) -> dict[str, str]:
    """Variables that say where compiled code is kept."""
    names = {"VLLM_CACHE_ROOT": "vllm", "TRITON_CACHE_DIR": "triton", "TORCHINDUCTOR_CACHE_DIR": "inductor"}
    return {name: str(folder / place) for name, place in names.items()}


# ------------------------------------------------------------------------------------------------ all of it


@contextmanager
def engines_of(options: SimpleNamespace, results: Results) -> Iterator[tuple[list[TimedEngine], int]]:
    """The engines, started at the same time, with the plugin or without, and the layers of the model."""
    declared = {"capvec_layers": four(options.layers)}
    args = {"bare": options.args, "all": options.args, "four": options.args | declared}
    args |= {"two": options.args | {"data_parallel_size": 2}, "invariant": options.args}
    variables = defaultdict(dict, invariant={"VLLM_BATCH_INVARIANT": "1"})
    engines = [
        TimedEngine(
            name, options.model, args[name], options.out / f"{name}.log", plugin=name != "bare", **variables[name]
        )
        for name in options.engines
    ]
    try:
        up, n_layers = [], 0
        for engine in engines:
            try:
                about = engine.ready()
            except RuntimeError as error:
                results.say(f"{engine.name} is left out: {error}")
                continue
            up.append(engine)
            n_layers = about["layers"]
            results.add(f"start of {engine.name} beside the others", about)
            results.say(f"{engine.name} started in {about['start_s']:.1f} s beside the others: {about}")
        yield up, n_layers
    finally:
        for engine in engines:
            engine.close()


@pytest.mark.usefixtures("cuda")
def test_vllm(bench, tmp_path, monkeypatch):
    pytest.importorskip("vllm")
    options = bench.sizes(
        {
            "model": "", "shape": "flagship", "layers": 32, "logs": str(tmp_path),
            "args": {}, "engines": ("bare", "all", "four"),
            "parts": PARTS, "rows": (1, 8, 32, 128), "prompt": 512, "new": 64, "rounds": 3, "within": 3600.0,
        },
        {"layers": 4, "engines": ("bare", "all"), "parts": ("decode",), "rows": (1,), "new": 8, "rounds": 1},
    )  # fmt: skip
    options.out = Path(options.logs)
    for name, folder in caches(options.out / "caches").items():
        monkeypatch.setenv(name, folder)
    options.args = {"max_model_len": CAPTURED_TOKENS * 2} | options.args
    results = Results(bench)
    options.model = Path(options.model) if options.model else options.out / options.shape
    if not options.model.exists():
        seconds = in_a_process(time_saving, options.shape, str(options.model))
        size = sum(file.stat().st_size for file in options.model.iterdir())
        results.say(f"made {options.model}, {size / 1e9:.1f} GB, in {seconds:.1f} s")
    for part in options.parts:
        if part == "peer":
            attempt(part, options, peer, results)
    timed = [part for part in options.parts if part in ENGINES]
    if timed:
        with engines_of(options, results) as (engines, n_layers):
            alone = [engine for engine in engines if engine.name != "two"]
            for part in timed:
                attempt(part, options, ENGINES[part], results, engines if part == "parallel" else alone, n_layers)
    for part in options.parts:
        if part in ("serve", "cold"):
            attempt(part, options, {"serve": serve, "cold": cold}[part], results)


ENGINES = {"decode": decode, "alike": alike, "turns": turns, "capture": capture, "parallel": parallel}
"""Parts for which the engines stand beside each other."""


def attempt(part: str, options: SimpleNamespace, function: Callable[..., None], results: Results, *more: Any) -> None:
    """Do a part unless it is too late; a part that fails is said, and the next one begins."""
    if time.monotonic() - STARTED > options.within:
        results.say(f"{part}: left out, since {options.within:.0f} s are over")
        return
    try:
        function(options, results, *more)
    except Exception as error:
        results.say(f"{part}: FAILED: {type(error).__name__}: {error}")
