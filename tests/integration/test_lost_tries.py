"""Real containers and a real engine that are taken away under a trial: it begins anew, and counts once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial

import docker
import numpy as np
import psutil
import pytest
import safetensors.numpy
from support.real_sweeps import REWARD, containers, no_container_is_left, write_task
from support.real_trials import repeater
from support.tiny_models import LAYERS, WIDTH, save_tiny

from capvec.engines.client import EngineClient
from capvec.engines.protocol import ModelSource
from capvec.engines.supervised import SupervisedEngine
from capvec.errors import EngineUnavailable
from capvec.sandbox.docker import DockerProvider
from capvec.steering import Steer
from capvec.tasks import load_task
from dev.agent.scripted_model import ScriptedModel

pytestmark = pytest.mark.integration
RUN = f"test-lost-{os.getpid()}"


class Saboteur:
    """A model that does something to the trial's container once, before one of its replies, counted from 1."""

    def __init__(self, sabotage: Callable[[docker.DockerClient, str], None], reply: int) -> None:
        self._sabotage, self._reply, self.tries, self._model = sabotage, reply, 0, ScriptedModel([])

    def complete(self, messages, **asked):
        if len(messages) == 2:
            self.tries += 1
            self._model = ScriptedModel(
                ["```bash\necho $RANDOM >> /app/said\n```", "```bash\nwc -l < said\n```", "DONE"]
            )
        elif self.tries == 1 and len(messages) == 2 * self._reply:
            client = docker.from_env()
            try:
                *_, container = containers(RUN)  # the newest comes first, and may be the verifier's
                self._sabotage(client, container["Id"])
            finally:
                client.close()
        return self._model.complete(messages, **asked)


def remove(client: docker.DockerClient, container: str) -> None:
    client.api.remove_container(container, force=True)


def pause(client: docker.DockerClient, container: str) -> None:
    client.api.pause(container)


@pytest.mark.parametrize("sabotage", [remove, pause])
@pytest.mark.parametrize("reply", [2, 3], ids=["while the agent acts", "before it is judged"])
@pytest.mark.parametrize("apart", [False, True])
def test_a_trial_whose_container_is_taken_away_begins_anew_in_a_fresh_one(tmp_path, sabotage, reply, apart) -> None:
    # Solved where there is one line, as in a container that no earlier try has written to.
    write_task(tmp_path / "easy", '[ "$(wc -l < /app/said)" = 1 ] || exit 1\n' + REWARD.format(1))
    if apart:
        settings = tmp_path / "easy" / "task.toml"
        separate = '[verifier]\nenvironment_mode = "separate"\n'
        settings.write_text(f'artifacts = ["/app"]\n{settings.read_text()}{separate}')
    task = load_task(tmp_path / "easy")
    DockerProvider().prepare(task)
    tries = repeater(task, Saboteur(sabotage, reply), RUN, tmp_path)
    plan, (spec,) = tries.runner.plan, tries.runner.plan.trials
    outcome = tries.run(spec)
    assert (outcome.outcome, outcome.error, outcome.tries, outcome.steps) == ("solved", "", 2, 3)
    assert (outcome.lost[0].away, outcome.lost[0].error.split(":")[0]) == (None, "SandboxUnavailable")
    assert plan.lost_try(spec.id, 1).exists()
    assert not tries.instrument.notice.reason
    assert no_container_is_left(RUN)


def test_what_is_left_of_a_trial_is_cleared_and_that_of_another_is_not(tmp_path) -> None:
    write_task(tmp_path / "easy", REWARD.format(1))
    task, provider = load_task(tmp_path / "easy"), DockerProvider()
    provider.prepare(task)
    with provider.open(task, run=RUN, trial="one"), provider.open(task, run=RUN, trial="two"):
        provider.clear(run=RUN, trial="one")
        assert len(containers(RUN)) == 1
        provider.clear(run="another", trial="two")
        assert len(containers(RUN)) == 1
    assert no_container_is_left(RUN)


def kill(engine: SupervisedEngine) -> None:
    """Kill its process, and wait until that has ended."""
    (process,) = (one for one in psutil.Process().children() if "capvec.engines.transformers" in one.cmdline())
    process.kill()
    while not engine.ended:
        time.sleep(0.01)


def test_an_engine_starts_again_once_at_its_address_and_gets_its_directions_back(tmp_path) -> None:
    source = ModelSource(str(save_tiny(tmp_path / "tiny", "llama")), "tiny")
    vectors = np.random.default_rng(0).standard_normal((LAYERS, WIDTH)).astype(np.float32)
    engine = SupervisedEngine(source, tmp_path / "engine.log")
    try:
        with EngineClient(engine.url, engine.token) as client:
            weights = client.health().weights
            direction = client.put_direction(safetensors.numpy.save({"directions": vectors})).hash
            check = partial(client.check, weights, [direction])
            ask = partial(client.complete, [{"role": "user", "content": "hi"}], seed=1, max_tokens=6, temperature=0.8)
            before = ask(steers=[Steer(1, direction, 2.0)])
            check()
            state = client.state()
            assert (state.directions, state.requests) == ((direction,), 0)
            assert state.steps >= before.completion_tokens - 1  # the first token comes with the prompt
            with pytest.raises(EngineUnavailable, match="now serves"):
                client.check(("another", None, "float32"))
            engine.revive()  # it has not ended
            kill(engine)
            with pytest.raises(EngineUnavailable, match="did not answer"):
                check()
            engine.revive()
            with pytest.raises(EngineUnavailable, match="does not hold 1 of the directions"):
                check()
            client.restore_directions(client.state().directions)
            check()
            again = ask(steers=[Steer(1, direction, 2.0)])
            assert (again.text, again.receipts) == (before.text, before.receipts)
            kill(engine)
            with pytest.raises(EngineUnavailable, match="ended twice"):
                engine.revive()
    finally:
        engine.close()
