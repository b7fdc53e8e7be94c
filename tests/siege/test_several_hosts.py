"""Sweeps on several Docker hosts, of which one dies, comes back, or loses its SSH connection."""

from __future__ import annotations

import gc
import io
import json
import os
import re
import time

import pytest
from support.dockerd import Dockerd, dockerd
from support.real_sweeps import REWARD, ledger, write_task
from support.sshd import sshd, why_not
from support.started_runs import RUN, capvec_command, recorded, sweep_command
from support.tasks import CLOSED, make_task

from capvec.errors import UsageError
from capvec.sandbox.base_image import BASE_IMAGE
from capvec.sandbox.docker import DockerProvider
from capvec.sandbox.hosts import reach
from capvec.sandbox.reaper import RUN_LABEL
from capvec.tasks import load_task

pytestmark = [
    pytest.mark.siege,
    # The SDK leaves a socket open where nothing listens.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

TASKS = ("one", "two", "three", "four")
ATTEMPTS = 2
TRIALS = 2 * len(TASKS) * ATTEMPTS
SLOW = "sleep 2\n"


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """Tasks whose verifiers take a while."""
    folder = tmp_path_factory.mktemp("tasks")
    for name in TASKS:
        write_task(folder / name, SLOW + REWARD.format(1))
    return folder


@pytest.fixture(scope="module")
def another():
    """A second daemon, which has no image at first."""
    with dockerd() as running:
        yield running


@pytest.fixture
def hosts(dockerd: Dockerd, another: Dockerd, monkeypatch):
    """Two hosts. The environment names neither, so that whatever asks the Docker of the environment fails."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    another.start()
    yield dockerd, another
    another.start()
    another.remove_containers()
    gc.collect()  # while the warning of what the SDK leaves is ignored


@pytest.fixture
def server():
    """An SSH server that leads to the hosts."""
    if reason := why_not():
        pytest.skip(reason)
    with sshd() as running:
        yield running


@pytest.fixture
def sweep(start, model, tasks):
    """Starts a sweep of four workers on hosts of these addresses."""

    def begin(*addresses: str, options: tuple[str, ...] = ("--attempts", str(ATTEMPTS)), **environ: str):
        named = [word for address in addresses for word in ("--docker-host", address)]
        return start(sweep_command(model, "--tasks", str(tasks), "-n", "4", *named, *options), **environ)

    return begin


def left_on(host: Dockerd) -> list[str]:
    with host.client() as client:
        return [one["Id"] for one in client.api.containers(all=True, filters={"label": f"{RUN_LABEL}={RUN}"})]


def running_on(host: Dockerd) -> int:
    with host.client() as client:
        return len(client.api.containers(filters={"label": f"{RUN_LABEL}={RUN}"}))


@pytest.mark.slow
def test_a_host_that_dies_costs_only_its_running_trials_which_run_elsewhere(hosts, sweep, folder) -> None:
    one, other = hosts
    run = sweep(one.host, other.host)
    run.wait_for(lambda: recorded(folder) >= 4 and running_on(other) >= 1)
    other.kill()
    assert run.end() == 0, run.said
    outcomes = ledger(folder)
    assert len(outcomes) == TRIALS
    assert {outcome["outcome"] for outcome in outcomes.values()} == {"solved"}
    lost = [one for outcome in outcomes.values() for one in outcome["lost"]]
    assert 1 <= len(lost) <= 4  # those that ran there
    assert {(each["host"], each["away"]) for each in lost} == {(other.host, "Docker")}
    for outcome in outcomes.values():
        assert not outcome["lost"] or outcome["host"] == one.host
    assert {outcome["host"] for outcome in outcomes.values()} == {one.host, other.host}
    assert f"Docker at {other.host} no longer answers" in run.said
    assert not left_on(one)
    [about, about_other] = json.loads((folder / "provenance.json").read_text())["docker_hosts"]
    assert (about["name"], about_other["name"]) == (one.host, other.host)


@pytest.mark.slow
def test_two_hosts_share_the_trials_and_have_the_same_images_and_nothing_is_left(hosts, sweep, folder) -> None:
    one, other = hosts
    with other.client() as client:
        client.images.prune({"dangling": False})
    run = sweep(one.host, other.host)
    assert run.end() == 0, run.said
    at = [outcome["host"] for outcome in ledger(folder).values()]
    assert len(at) == TRIALS
    assert abs(at.count(one.host) - at.count(other.host)) <= 4, at
    assert run.said.count("copying the image capvec/") == len(TASKS)
    found = []
    for host in hosts:
        with host.client() as client:
            found.append({tag: image.attrs["RootFS"] for image in client.images.list("capvec/*") for tag in image.tags})
    assert found[1].items() <= found[0].items()
    assert not left_on(one)
    assert not left_on(other)


@pytest.mark.slow
def test_where_all_hosts_die_trials_wait_for_the_first_that_comes_back(hosts, sweep, folder) -> None:
    one, other = hosts
    run = sweep(one.host, other.host)
    run.wait_for(lambda: recorded(folder) >= 2)
    one.kill()
    other.kill()
    time.sleep(8)
    other.start()
    assert run.end() == 0, run.said
    outcomes = ledger(folder)
    assert (len(outcomes), {one["outcome"] for one in outcomes.values()}) == (TRIALS, {"solved"})
    assert "Docker has not answered for" in run.said
    assert not left_on(other)


@pytest.mark.slow
def test_a_run_goes_on_with_other_hosts(hosts, sweep, folder) -> None:
    one, other = hosts
    options = ("--attempts", "1")
    assert sweep(one.host, options=options).end() == 0
    kept = [line for line in (folder / "trials.jsonl").read_text().splitlines() if '"one"' not in line]
    (folder / "trials.jsonl").write_text("\n".join(kept) + "\n")
    resumed = sweep(other.host, one.host, options=(*options, "--resume"))
    assert resumed.end() == 0, resumed.said
    outcomes = ledger(folder)
    assert len(outcomes) == 2 * len(TASKS)
    assert {outcome["host"] for outcome in outcomes.values()} == {one.host, other.host}


@pytest.mark.slow
def test_a_host_at_the_end_of_ssh_loses_its_connection_and_comes_back(hosts, server, sweep, folder) -> None:
    one, other = hosts
    far = server.address(other.host.removeprefix("unix://"))
    run = sweep(one.host, far, PATH=f"{server.programs}:{os.environ['PATH']}")
    run.wait_for(lambda: recorded(folder) >= 2 and running_on(other) >= 1, timeout_s=600)
    server.cut()
    time.sleep(1)
    server.start()
    assert run.end(timeout_s=600) == 0, run.said
    outcomes = ledger(folder)
    assert (len(outcomes), {each["outcome"] for each in outcomes.values()}) == (TRIALS, {"solved"})
    assert {each["host"] for each in outcomes.values()} == {one.host, far}
    lost = [each for outcome in outcomes.values() for each in outcome["lost"]]
    assert 1 <= len(lost) <= 4
    assert {each["host"] for each in lost} == {far}
    assert not left_on(one)
    assert not left_on(other)
    assert run.left() == []


@pytest.mark.slow
def test_tasks_are_checked_on_all_hosts_and_one_that_dies_makes_no_task_unfit(hosts, start, tmp_path) -> None:
    one, other = hosts
    for name in TASKS:
        write_task(tmp_path / "tasks" / name, f"{SLOW}test -e /app/done; n=$?\n{REWARD.format('$((1-n))')}")
        (tmp_path / "tasks" / name / "solution").mkdir()
        (tmp_path / "tasks" / name / "solution" / "solve.sh").write_text("touch /app/done\n")
    hosts_named = ("--docker-host", one.host, "--docker-host", other.host)
    check = start(capvec_command("check", *hosts_named, "--jobs", "4", str(tmp_path / "tasks")))
    check.wait_for(lambda: _any_container(other))
    other.kill()
    assert check.end() == 0, check.said
    assert f"{len(TASKS)} of {len(TASKS)} tasks proved" in check.said


def test_a_host_that_does_not_answer_at_the_start_is_named_in_one_sentence(hosts, sweep) -> None:
    one, _ = hosts
    run = sweep(one.host, "tcp://127.0.0.1:1")
    assert run.end() != 0
    assert "the Docker host tcp://127.0.0.1:1 does not answer (Connection refused)" in run.said


def test_doctor_shows_each_host_and_setup_gives_the_first_one_the_base_image(hosts, start) -> None:
    one, other = hosts
    named = ("--docker-host", one.host, "--docker-host", other.host)
    doctor = start(capvec_command("doctor", *named))
    doctor.end()
    assert f"at {one.host}" in doctor.said
    assert f"at {other.host}" in doctor.said
    assert re.search(rf"ok +base image +{BASE_IMAGE}", doctor.said)
    again = start(capvec_command("doctor", "--docker-host", one.host, "--docker-host", "tcp://127.0.0.1:1"))
    assert again.end() == 1
    assert "tcp://127.0.0.1:1" in again.said


def _any_container(host: Dockerd) -> bool:
    with host.client() as client:
        return bool(client.api.containers())


@pytest.mark.slow
def test_a_ready_image_that_differs_between_the_hosts_is_refused_by_its_name(hosts, tmp_path) -> None:
    one, other = hosts
    task = load_task(make_task(tmp_path, toml=f'{CLOSED}docker_image = "siege-ready"\n'))
    with one.client() as source, other.client() as target:
        target.images.load(source.api.get_image(BASE_IMAGE))
    for number, host in enumerate(hosts):
        with host.client() as client:
            client.images.build(fileobj=io.BytesIO(f"FROM {BASE_IMAGE}\nENV N={number}\n".encode()), tag="siege-ready")
    with reach([one.host, other.host]) as several:
        with pytest.raises(
            UsageError, match=f"siege-ready is another image on {other.host} .*`docker rmi siege-ready`"
        ):
            DockerProvider(hosts=several).prepare(task)
        with other.client() as client:
            client.images.remove("siege-ready", force=True)
        said: list[str] = []
        DockerProvider(say=said.append, hosts=several).prepare(task)
    assert said == [f"task greet: copying the image siege-ready to {other.host}"]
