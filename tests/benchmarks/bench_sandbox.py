"""What capvec adds to a trial around the model: containers, shell, copies, verifier, removal.

Trials of bundled tasks run with a model that sends the task's own solution and then `DONE`, after thinking for a given
time; 0 s shows how many trials a second the machine can take. The peer does the least that such a trial needs with the
bare SDK, in turns with capvec: two containers with the same limits are created, started, given one `docker exec` each,
and removed.

- Wait: from a trial's turn to its first question to the model.
- Own: what a trial takes beside the model's time and that of its commands.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import chain, repeat
from statistics import median

import docker
import pytest
from support.benchmarks import by_turns, ratio
from support.real_sweeps import containers

from capvec.plan.plan import Plan, Settings, interleave
from capvec.records import Config, Reply
from capvec.run.trial import TrialRunner
from capvec.sandbox.docker import DockerProvider
from capvec.sandbox.docker_host import connect
from capvec.steering import IsolationCheck
from capvec.tasks.loader import load_tasks

pytestmark = pytest.mark.bench
RUN = "benchmark-sandbox"
FAMILIES = ("append-line-1", "copy-file-1", "make-folders-1", "count-lines-1")


class Thinking:
    """Answers with the solution of the task that it is asked about, then `DONE`, each after some time."""

    def __init__(self, solutions: dict[str, str], seconds: float) -> None:
        self._solutions, self._seconds = solutions, seconds
        self.asked: dict[int, float] = {}
        """Thread → when it asked first in its trial."""

    def complete(self, messages, **_) -> Reply:
        said = messages[-1]["content"]
        solution = next((script for task, script in self._solutions.items() if task in said), None)
        if solution is not None:
            self.asked[threading.get_ident()] = time.perf_counter()
        time.sleep(self._seconds)
        text = "DONE" if solution is None else f"```bash\n(\n{solution}\n)\n```"
        still = IsolationCheck(forwards=1, sites=0, watched=0, steered=0, leak_max=0.0)
        return Reply(text, "stop", 1, 1, self._seconds, isolation=still)


def own_trials(plan: Plan, model: Thinking, at_a_time: int, spent: dict[str, list[float]]) -> float:
    """Trials a second; what each waited for and spent goes to `spent`."""
    runner = TrialRunner(plan, model, DockerProvider(), ahead=at_a_time)

    def run(spec, following) -> None:
        turn = time.perf_counter()
        outcome = runner.run(spec, following)
        ended = time.perf_counter()
        assert outcome.outcome == "solved", (outcome.trial, outcome.error, outcome.note)
        spent["wait"].append(model.asked[threading.get_ident()] - turn)
        spent["own"].append(ended - turn - outcome.model_s - outcome.sandbox_s)

    began = time.perf_counter()
    with closing(runner), ThreadPoolExecutor(at_a_time) as pool:
        following = chain(plan.trials[at_a_time:], repeat(None))
        list(pool.map(run, plan.trials, following))
    seconds = time.perf_counter() - began
    assert containers(RUN) == []
    return len(plan.trials) / seconds


def bare_trials(image: str, count: int, thinking_s: float, at_a_time: int) -> float:
    """Trials a second of the bare SDK."""
    limits = {
        "network_mode": "none", "cap_drop": ["ALL"], "security_opt": ["no-new-privileges"], "mem_limit": "256m",
        "memswap_limit": "256m", "pids_limit": 1024, "nano_cpus": 10**9, "init": True,
    }  # fmt: skip

    def run(client: docker.DockerClient) -> None:
        agent = client.containers.create(image, ["sleep", "infinity"], **limits)
        verifier = client.containers.create(image, ["sleep", "infinity"], **limits)
        try:
            agent.start()
            time.sleep(2 * thinking_s)
            agent.exec_run(["sh", "-c", "true"])
            verifier.start()
            verifier.exec_run(["sh", "-c", "true"])
        finally:
            for container in (agent, verifier):
                container.remove(force=True)

    began = time.perf_counter()
    with connect() as client, ThreadPoolExecutor(at_a_time) as pool:
        list(pool.map(run, repeat(client, count)))
    return count / (time.perf_counter() - began)


@pytest.mark.parametrize("case", ["thinking", "instant"])
def test_sandbox(bench, case, tmp_path):
    bench.name = f"sandbox_{case}"
    sizes = bench.sizes(
        {"trials": 64, "rounds": 3, "at_a_time": 16, "seconds": 0.0}
        | ({"at_a_time": 4, "seconds": 1.0} if case == "thinking" else {}),
        {"trials": 4, "rounds": 1, "at_a_time": 2, "seconds": 0.0},
    )
    tasks = [load_tasks(name).tasks[0] for name in FAMILIES]
    images = [DockerProvider().prepare(task).split()[0] for task in tasks]
    configs = (Config("baseline", "baseline"),)
    trials = interleave(tasks, configs, -(-sizes.trials // len(tasks)), 0)[: sizes.trials]
    settings = Settings("m", "bash-block", "zero-shot", 4, 32, 0.7)
    plan = Plan(RUN, tmp_path, tuple(tasks), configs, trials, settings)
    solutions = {task.instruction: (task.path / "solution" / "solve.sh").read_text() for task in tasks}
    spent: dict[str, list[float]] = {"wait": [], "own": []}
    sides = {
        "capvec": lambda: own_trials(plan, Thinking(solutions, sizes.seconds), sizes.at_a_time, spent),
        "bare": lambda: bare_trials(images[0], sizes.trials, sizes.seconds, sizes.at_a_time),
    }
    found = by_turns(sizes.rounds, sides)
    bench.add(
        f"{sizes.at_a_time} at a time, model {sizes.seconds:g} s a reply: {median(found['capvec']):.2f} trials/s, bare "
        f"SDK {median(found['bare']):.2f}, ratio {ratio(found['capvec'], found['bare']):.2f}; median wait "
        f"{1000 * median(spent['wait']):.0f} ms, own {1000 * median(spent['own']):.0f} ms a trial",
        **found, **spent,
    )  # fmt: skip
