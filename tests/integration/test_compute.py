"""From traces to a direction, three ways: in a sweep, by `capvec compute`, and by `capvec capture` before it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.tiny_models import LAYERS, WIDTH, save_tiny

from capvec.commands.main import main
from capvec.directions.activations import ActivationFile
from capvec.directions.direction import Direction
from capvec.directions.files import FORMATS
from capvec.directions.recipe import Recipe
from capvec.engines.client import EngineClient
from capvec.engines.process import start_engine
from capvec.engines.protocol import TOKEN_VARIABLE, ModelSource
from capvec.plan.option_parsers import parse_controls
from capvec.plan.options import SweepOptions
from capvec.run.directions import obtain_direction

pytestmark = pytest.mark.integration

CONTEXT = 330
"""The longest traces have a few tokens more, a byte each."""


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder = save_tiny(tmp_path_factory.mktemp("model"), "llama")
    log = tmp_path_factory.mktemp("log") / "engine.log"
    with start_engine(ModelSource(str(folder), "tiny", CONTEXT), log_path=log) as running:
        yield running


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    """Three passes and four long failures, each of another length, one beyond the context; and one without a reward."""
    folder = tmp_path_factory.mktemp("traces")
    for number, reward in enumerate([1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, None]):
        turns = 2 if reward == 1.0 else 15
        steps = [{"source": "user", "message": f"task {number} " + "please " * number}]
        steps += [{"source": "agent", "message": f"```bash\nls {turn}\n```"} for turn in range(turns)]
        document = {
            "schema_version": "ATIF-v1.8",
            "trajectory_id": f"trace{number}",
            "agent": {"name": "other", "version": "1", "model_name": "m"},
            "steps": steps,
            "extra": {"task": f"task{number % 3}", "reward": reward, "parse_fail": 0, "no_cmd": 0},
        }
        (folder / f"{number}.json").write_text(json.dumps(document))
    return folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch, engine):
    monkeypatch.setenv(TOKEN_VARIABLE, engine.token)
    monkeypatch.chdir(tmp_path)


def fresh_cache(monkeypatch, tmp_path, name):
    """Nothing is taken from what an earlier step captured."""
    monkeypatch.setenv("CAPVEC_CACHE", str(tmp_path / name))


@pytest.mark.parametrize("pooling", ["last", "mean-assistant"])
def test_the_sweep_and_the_commands_build_the_same_direction(engine, traces, tmp_path, monkeypatch, pooling):
    options = SweepOptions(traces=str(traces), recipe=Recipe(pooling=pooling))
    fresh_cache(monkeypatch, tmp_path, "one")
    with EngineClient(engine.url, engine.token) as client:
        swept = obtain_direction(options, client, client.health(), tmp_path / "sweep", lambda _: None)

    common = ["--traces", str(traces), "--base-url", engine.url, "--pooling", pooling]
    fresh_cache(monkeypatch, tmp_path, "two")
    assert main(["compute", *common, "--out", "computed"]) == 0
    assert main(["capture", *common, "--out", "a.safetensors"]) == 0
    assert main(["compute", "--activations", "a.safetensors", "--out", "captured"]) == 0

    assert swept.direction.vectors.any()
    for folder in ("computed", "captured"):
        assert Direction.read(tmp_path / folder / "dir.safetensors").hash == swept.direction.hash
        for name in ("dir.pt", "ranking.csv"):
            assert (tmp_path / folder / name).read_bytes() == (tmp_path / "sweep/vectors" / name).read_bytes()


def test_capture_says_what_it_left_out_and_what_it_cut(engine, traces, capsys):
    arguments = ["--traces", str(traces), "--base-url", engine.url, "--pooling", "mean-assistant"]
    assert main(["capture", *arguments, "--out", "a.safetensors"]) == 0
    said = capsys.readouterr().out
    assert "7 of 8 traces" in said
    assert "left out: 1 without a reward" in said
    file = ActivationFile.load("a.safetensors")
    assert file.activations.residuals.shape == (7, LAYERS, WIDTH)
    cut = np.array(file.activations.tokens) - CONTEXT
    assert file.activations.truncated_tokens == tuple(np.maximum(cut, 0))
    assert (cut > 0).any()
    assert [trace.id for trace in file.traces] == [f"trace{number}" for number in range(7)]
    assert file.engine.model == "tiny"
    worst = int(cut.argmax())
    assert f"trace trace{worst} lost {cut[worst]} of {file.activations.tokens[worst]} tokens" in said


def test_a_trace_in_which_the_agent_says_nothing_is_named(engine, tmp_path, capsys):
    steps = [{"source": "user", "message": "hello"}, {"source": "agent", "message": ""}]
    agent = {"name": "other", "version": "1", "model_name": "m"}
    silent = {"schema_version": "ATIF-v1.8", "trajectory_id": "silent", "agent": agent, "steps": steps}
    (tmp_path / "one.json").write_text(json.dumps(silent | {"extra": {"reward": 1.0}}))
    arguments = ["--traces", "one.json", "--base-url", engine.url, "--pooling", "last-assistant"]
    assert main(["capture", *arguments, "--out", "a.safetensors"]) == 2
    assert "trace silent: no assistant token to pool (last-assistant)" in capsys.readouterr().err
    assert not (tmp_path / "a.safetensors").exists()


class RecordingClient(EngineClient):
    """A client that remembers which directions it sent."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.sent = []

    def put_direction(self, data):
        info = super().put_direction(data)
        self.sent.append(info.hash)
        return info


@pytest.mark.parametrize("suffix", ["pt", "safetensors", "gguf"])
def test_a_direction_and_each_of_its_controls_cross_the_wire_once(engine, tmp_path, suffix):
    vectors = np.random.default_rng(0).standard_normal((LAYERS, WIDTH)).astype(np.float32)
    direction = Direction(vectors)
    direction.save(f"mine.{suffix}")
    options = SweepOptions(direction=f"mine.{suffix}", controls=parse_controls("random:2,orthogonal:1,negated,zero"))
    with RecordingClient(engine.url, engine.token) as client:
        obtained = obtain_direction(options, client, client.health(), tmp_path / "sweep", lambda _: None)
    assert obtained.direction.hash == direction.hash
    controls = [one.hash for kind in ("random", "orthogonal") for one in obtained.controls[kind]]
    assert client.sent == [direction.hash, *controls]
    written = [Direction.read(tmp_path / f"sweep/vectors/dir.{one}") for one in FORMATS]
    assert {one.hash for one in written} == {direction.hash}
