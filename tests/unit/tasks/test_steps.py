"""The steps of a task, and the container in which each is judged."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.tasks import CLOSED, make_task

from capvec.errors import UsageError
from capvec.task_records import Environment, Limits
from capvec.tasks.config import parse_settings
from capvec.tasks.steps import agent_environment, steps_of

pytestmark = pytest.mark.unit
OWN = "[verifier]\nenvironment_mode = 'separate'\n"


def steps(folder: Path, toml: str):
    return steps_of(folder, parse_settings(toml, file="task.toml"))


def test_a_task_without_steps_has_one_that_is_judged_in_the_agents_container(tmp_path: Path) -> None:
    (only,) = steps(make_task(tmp_path), CLOSED)
    assert (only.name, only.instruction, only.verifier.environment, only.verifier.tests) == (
        "",
        "Say hello.",
        None,
        ("tests",),
    )


def test_a_separate_verifier_without_an_image_of_its_own_has_a_copy_of_the_agents(tmp_path: Path) -> None:
    (only,) = steps(make_task(tmp_path), f"{CLOSED}memory_mb = 64\n{OWN}")
    assert only.verifier.environment == Environment(limits=Limits(memory_mb=64))
    assert only.verifier.tests == ("tests",)


def test_a_dockerfile_beside_the_tests_is_the_separate_verifiers_and_has_the_tests(tmp_path: Path) -> None:
    folder = make_task(tmp_path)
    (folder / "tests" / "Dockerfile").write_text("FROM debian:bookworm-slim\nCOPY . /tests\n")
    (shared,) = steps(folder, CLOSED)
    assert shared.verifier.environment is None
    (separate,) = steps(folder, f"{CLOSED}docker_image = 'agents'\n{OWN}")
    assert separate.verifier.environment == Environment(folder="tests")
    assert separate.verifier.tests == ()


def test_a_verifiers_image_is_its_own_and_has_the_tests(tmp_path: Path) -> None:
    (only,) = steps(
        make_task(tmp_path), f"{CLOSED}[verifier.environment]\ndocker_image = 'judge'\nallow_internet = false"
    )
    assert only.verifier.environment == Environment(folder="tests", image="judge")
    assert only.verifier.tests == ()


def test_each_step_has_its_folder_and_what_the_task_says_for_all(tmp_path: Path) -> None:
    folder = make_task(tmp_path)
    for name in ("one", "two"):
        (folder / "steps" / name / "tests").mkdir(parents=True)
        (folder / "steps" / name / "instruction.md").write_text(f"Do {name}.\n")
    (folder / "steps" / "two" / "tests" / "test.sh").write_text("true\n")
    toml = f"""artifacts = ["/all"]
        {CLOSED}[verifier]
        timeout_sec = 7
        user = "judge"
        env = {{ A = "1", B = "1" }}
        [[steps]]
        name = "one"
        artifacts = ["/one"]
        [[steps]]
        name = "two"
        [steps.verifier]
        env = {{ B = "2" }}
        user = 0
        environment_mode = "separate"
    """
    one, two = steps(folder, toml)
    assert (one.instruction, two.instruction) == ("Do one.", "Do two.")
    assert [artifact.source for artifact in one.artifacts] == ["/all", "/one"]
    assert one.verifier.tests == ("tests", "steps/one/tests")
    assert two.verifier.tests == ("tests", "steps/two/tests")
    assert (one.verifier.env, two.verifier.env) == ({"A": "1", "B": "1"}, {"A": "1", "B": "2"})
    assert (one.verifier.user, two.verifier.user, two.verifier.timeout_s) == ("judge", "0", 7.0)
    assert one.verifier.environment is None
    assert two.verifier.environment == Environment()


def test_a_step_without_an_instruction_or_any_test_is_refused_by_file(tmp_path: Path) -> None:
    folder = make_task(tmp_path)
    toml = f"{CLOSED}[[steps]]\nname = 'one'\n"
    with pytest.raises(UsageError, match=r"steps/one/instruction\.md: no such file"):
        steps(folder, toml)
    (folder / "steps" / "one").mkdir(parents=True)
    (folder / "steps" / "one" / "instruction.md").write_text("Do it.")
    (folder / "tests" / "test.sh").unlink()
    with pytest.raises(UsageError, match=r"steps/one/tests/test\.sh: no such file; expected the verifier"):
        steps(folder, toml)


def test_a_compose_file_describes_containers_without_a_dockerfile(tmp_path: Path) -> None:
    folder = make_task(tmp_path)
    (folder / "environment" / "Dockerfile").unlink()
    settings = parse_settings(CLOSED, file="task.toml")
    with pytest.raises(UsageError, match=r"environment/Dockerfile: no such file"):
        agent_environment(folder, settings)
    (folder / "environment" / "docker-compose.yaml").write_text("services: {}\n")
    assert agent_environment(folder, settings).compose
