"""Replies constrained to a protocol's grammar: alone, beside other rows of a batch, and as a control of a sweep."""

from __future__ import annotations

import json
import re
from collections import Counter
from concurrent.futures import Future

import httpx
import numpy as np
import psutil
import pytest
import safetensors.numpy
from support.real_sweeps import RUN, ledger, no_container_is_left
from support.tiny_models import load_tiny, save_tiny

from capvec.agent.protocols import PROTOCOLS
from capvec.engines.process import start_engine
from capvec.engines.protocol import ModelSource
from capvec.errors import UsageError
from capvec.receipts import check_finite
from capvec.steering import Steer

pytestmark = pytest.mark.integration
pytest_plugins = ("pytester",)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return load_tiny(tmp_path_factory.mktemp("tiny"), "llama")


@pytest.fixture
def tiny_engine(tmp_path):
    folder = save_tiny(tmp_path / "tiny", "llama")
    with start_engine(ModelSource(str(folder), "tiny"), log_path=tmp_path / "engine.log") as engine:
        yield engine


@pytest.fixture(scope="module")
def grammars(tiny):
    from capvec.engines.transformers.grammars import Grammars

    return Grammars(tiny)


def asked(tiny, seed, **changes):
    import torch

    from capvec.engines.transformers.decode import Request

    tokens = tuple(tiny.render([{"role": "user", "content": f"task {seed}"}], prompt=True))
    steers = (Steer(1, "d", 2.0),) if seed % 2 else ()
    vectors = (torch.randn(tiny.d_model, generator=torch.Generator().manual_seed(1)),) if steers else ()
    return Request(
        tokens, **{"max_tokens": 40, "seed": seed, "temperature": 1.0} | changes, steers=steers, vectors=vectors
    )


def replies(tiny, *requests):
    from capvec.engines.transformers.decode import Decoder

    decoder, futures = Decoder(tiny, prefix_bytes=0), [Future() for _ in requests]
    for request, future in zip(requests, futures, strict=True):
        decoder.add(request, future)
    while decoder.rows:
        decoder.step()
    return [future.result() for future in futures]


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_a_random_model_speaks_the_protocol_and_is_whole_even_at_its_limit(tiny, grammars, protocol):
    grammar = grammars.of(protocol.grammar)
    for room in (grammar.needs, grammar.needs + 1, grammar.needs + 30):
        for seed in range(3):
            (reply,) = replies(tiny, asked(tiny, seed, max_tokens=room, grammar=grammar))
            assert re.fullmatch(protocol.grammar, reply.text)
            assert (reply.finish_reason, reply.completion_tokens <= room) == ("stop", True)
            assert reply.isolation.leak_max == 0.0
            check_finite(reply.receipts, reply.isolation)


def test_a_constrained_row_changes_no_other_row_of_its_batch(tiny, grammars):
    grammar = grammars.of(PROTOCOLS["bash-block"].grammar)
    free = [asked(tiny, seed) for seed in range(4)]
    alone = [replies(tiny, request)[0].text for request in free]
    bound = [asked(tiny, seed, grammar=grammar) for seed in range(4)]
    bound_alone = [replies(tiny, request)[0].text for request in bound]
    mixed = [one for pair in zip(free, bound, strict=True) for one in pair]
    together = [reply.text for reply in replies(tiny, *mixed)]
    assert (together[::2], together[1::2]) == (alone, bound_alone)
    assert alone != bound_alone


def test_a_grammar_that_allows_what_would_be_drawn_changes_no_draw(tiny, grammars):
    free = asked(tiny, 0, max_tokens=8, temperature=0.0)
    (said,) = replies(tiny, free)
    grammar = (
        grammars.of(f"(?:{re.escape(said.text)}|[^\\x00]*)") if said.text.isprintable() else grammars.of(r"[\s\S]*")
    )
    (bound,) = replies(tiny, asked(tiny, 0, max_tokens=200, temperature=0.0, grammar=grammar))
    assert bound.text.startswith(said.text) or "\ufffd" in said.text


def test_only_so_many_grammars_are_kept(grammars):
    first = grammars.of("a{1}")
    for number in range(2, 7):
        grammars.of(f"a{{{number}}}")
    assert grammars.known("a{1}") is None
    assert grammars.of("a{1}") is not first


def test_what_was_refused_once_is_refused_at_once(grammars):
    assert grammars.known("(") is None
    with pytest.raises(UsageError, match="cannot constrain") as first:
        grammars.of("(")
    with pytest.raises(UsageError) as second:
        grammars.known("(")
    assert str(second.value) == str(first.value)


def test_clients_that_leave_a_long_expression_keep_no_other_from_an_answer(tiny_engine):
    """Each of these takes a minute of work, and ends with its client."""

    def ask(regex, seconds):
        body = {
            "messages": [{"role": "user", "content": "hi"}],
            "max_tokens": 8,
            "structured_outputs": {"regex": regex},
        }
        headers = {"Authorization": f"Bearer {tiny_engine.token}"}
        url = f"{tiny_engine.url}/v1/chat/completions"
        return httpx.post(url, json=body, headers=headers, timeout=seconds, trust_env=False)

    for number in range(30, 38):
        with pytest.raises(httpx.ReadTimeout):
            ask(f"(a|b)*a(a|b){{{number}}}", 1)
    answer = ask("(yes|no)", 240).raise_for_status().json()
    assert answer["choices"][0]["message"]["content"] in ("yes", "no")
    commands = [child.cmdline() for child in psutil.Process(tiny_engine.pid).children(recursive=True)]
    assert not [command for command in commands if "capvec.engines.transformers.automaton" in command]


def test_a_sweep_of_the_bundled_model_has_a_control_without_a_vector_whose_replies_all_parse(pytester, given, tmp_path):
    vectors = np.random.default_rng(0).standard_normal((30, 576)).astype(np.float32)
    safetensors.numpy.save_file(
        {"directions": vectors, "ambient_norm": np.full(30, 300, np.float32)}, tmp_path / "dir.safetensors"
    )
    result = pytester.runpytest_subprocess(
        "--pyargs", "capvec", "-p", "no:cacheprovider", "-m", "sweep", "--run", RUN, "--no-check",
        "--direction", str(tmp_path / "dir.safetensors"), "--layer", "20", "--alpha", "1", "--temperature", "2.5",
        "--tasks", str(given / "tasks"), "--max-steps", "4", "--max-tokens", "32", "--controls", "constrained,prompt",
        "-n", "2",
    )  # fmt: skip
    assert result.ret == pytest.ExitCode.OK, result.stdout.str()
    assert no_container_is_left()
    report = pytester.path / "reports" / RUN
    outcomes = ledger(report).values()
    assert {one["config"] for one in outcomes} == {"baseline", "steered-L20-a1", "constrained", "prompt"}
    bound = [one for one in outcomes if one["config"] == "constrained"]
    # A command may leave a quotation open, which no regular expression can tell.
    assert sum(one["no_cmd"] + one["repaired"] for one in bound) == 0
    faults = Counter()
    for one in outcomes:
        faults[one["config"]] += one["parse_fail"] + one["no_cmd"] + one["repaired"]
    assert faults["constrained"] < faults["baseline"]
    grammar = PROTOCOLS["bash-block"].grammar
    for one in bound:
        trajectory = json.loads((report / "trajectories" / f"{one['trial']}.json").read_text())
        said = [step["message"] for step in trajectory["steps"] if step["source"] == "agent"]
        assert said
        assert all(re.fullmatch(grammar, text) for text in said)
    configs = {one["name"]: one for one in json.loads((report / "provenance.json").read_text())["configs"]}
    assert {name: one["grammar"] for name, one in configs.items() if one["grammar"]} == {"constrained": grammar}
    assert configs["constrained"]["control"] == {"kind": "constrained", "configs": ["steered-L20-a1"]}
    text = (report / "RESULTS.md").read_text()
    assert "constrained replies, no vector" in text
    assert "Replies constrained to the protocol, without a vector, changed the pass rate by" in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(("--max-tokens", "2"), "--controls constrained: there is room for 2 tokens, and the shortest reply")],
)
def test_a_sweep_whose_engine_cannot_constrain_replies_is_refused_when_it_starts(sweep, arguments, says):
    result = sweep("--controls", "constrained", *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{says}*"])
