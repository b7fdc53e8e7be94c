"""The steps of a task: its instructions, and the container in which each is judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from capvec.errors import UsageError
from capvec.task_records import Environment, TaskStep, Verifier
from capvec.tasks.config import Mode, Settings, StepSettings, VerifierSettings
from capvec.tasks.files import read_text, require

COMPOSE = "docker-compose.yaml"
_REWARD = "the verifier, which writes /logs/verifier/reward.txt or reward.json"


def agent_environment(folder: Path, settings: Settings) -> Environment:
    """The agent's container.

    Raises:
        UsageError: the task has neither an image nor a file that describes one.
    """
    environment = _in_folder(folder, settings.environment, "environment")
    if environment.image is None and not environment.compose:
        require(folder / "environment" / "Dockerfile", "this file, or environment.docker_image in task.toml")
    return environment


def steps_of(folder: Path, settings: Settings) -> tuple[TaskStep, ...]:
    """The steps of a task; one without a name for a task without `[[steps]]`.

    Raises:
        UsageError: an instruction or a test script is missing.
    """
    if not settings.steps:
        instruction = _instruction(folder / "instruction.md")
        return (TaskStep("", instruction, settings.agent, _verifier(folder, settings, None), settings.artifacts),)
    return tuple(
        TaskStep(
            name=step.name,
            instruction=_instruction(folder / "steps" / step.name / "instruction.md"),
            agent=step.agent,
            verifier=_verifier(folder, settings, step),
            artifacts=(*settings.artifacts, *step.artifacts),
            healthcheck=step.healthcheck,
            min_reward=step.min_reward,
        )
        for step in settings.steps
    )


def _instruction(file: Path) -> str:
    instruction = read_text(file, "the instruction for the agent").strip()
    if not instruction:
        raise UsageError(f"{file}: empty; expected the instruction for the agent")
    return instruction


def _verifier(folder: Path, settings: Settings, step: StepSettings | None) -> Verifier:
    """The verifier of a step: its own keys, and the task's where it has none."""
    task, own = settings.verifier, step.verifier if step is not None else settings.verifier
    folders: tuple[str, ...] = ("tests",) if step is None else ("tests", f"steps/{step.name}/tests")
    environment = None
    if (_mode(own) or _mode(task) or "shared") == "separate":
        environment, bundled = _separate(folder, settings, own, folders)
        folders = () if bundled else folders
    tests = tuple(name for name in folders if (folder / name).is_dir())
    if folders and not any((folder / name / "test.sh").is_file() for name in tests):
        require(folder / folders[-1] / "test.sh", _REWARD)
    return Verifier(
        timeout_s=own.timeout_s or task.timeout_s or Verifier().timeout_s,
        env={**task.env, **own.env},
        user=own.user or task.user,
        network=task.network if own.network is None else own.network,
        environment=environment,
        tests=tests,
        collect=task.collect if step is None else (*task.collect, *own.collect),
    )


def _mode(settings: VerifierSettings) -> Mode | None:
    return settings.mode or ("separate" if settings.environment is not None else None)


def _separate(
    folder: Path, settings: Settings, own: VerifierSettings, folders: tuple[str, ...]
) -> tuple[Environment, bool]:
    """The verifier's own container, and whether its image has `/tests`.

    As in Harbor, the image is that of the verifier's own keys, or is built in the folder of the tests where that has a
    Dockerfile; otherwise the container is a fresh copy of the agent's, into which the tests are copied.
    """
    effective = own.environment or settings.verifier.environment or settings.environment
    candidates = [(settings.verifier.environment, folders[0])]
    if len(folders) > 1:
        candidates.insert(0, (own.environment, folders[-1]))
    for environment, tests in candidates:
        if environment is not None and environment.image is not None:
            return _in_folder(folder, replace(effective, image=environment.image), tests), True
        if any((folder / tests / name).is_file() for name in ("Dockerfile", COMPOSE)):
            return _in_folder(folder, replace(effective, image=None), tests), True
    return _in_folder(folder, replace(effective, image=settings.environment.image), "environment"), False


def _in_folder(folder: Path, environment: Environment, name: str) -> Environment:
    return replace(environment, folder=name, compose=(folder / name / COMPOSE).is_file())
