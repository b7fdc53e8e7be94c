"""The exceptions of capvec, in two groups, and one that is neither: `StorageExceeded`.

The user can correct a `UsageError`: a bad option, a broken task folder, a direction that does not fit the model. An
`InfrastructureError` is a failure of the measurement: Docker is down, the engine died, a hook did not fire. A trial
that meets one has the outcome `error` and is never counted as unsolved.
"""

from __future__ import annotations

import re
from typing import ClassVar


class CapvecError(Exception):
    """Base of all errors that capvec raises; the message is complete and written for the user."""

    fault: ClassVar[str] = "other"
    """What failed, in a word, by which the report counts errors of trials."""


class UsageError(CapvecError):
    """Bad input; the message says what was received, what was expected and what to do."""


class InfrastructureError(CapvecError):
    """The infrastructure failed, so the trial measured nothing."""


class SandboxUnavailable(InfrastructureError):
    """Docker, an image or a container is not usable. A command that fails in a container does not raise this."""

    fault = "docker"


class SandboxBroken(SandboxUnavailable):
    """Docker answers, and refuses what is asked of a container that is there; the agent may have broken it.

    Whoever blames it asks again first, once the same has gone well where no agent was.
    """


class EnvironmentFault(InfrastructureError):
    """The container is not what its task needs: the ENTRYPOINT ends, the healthcheck fails, or skills are missing."""

    fault = "task"


class EngineUnavailable(InfrastructureError):
    """The engine cannot be reached, refused the request, or died."""

    fault = "engine"


class SteeringFault(InfrastructureError):
    """A receipt does not show the requested steer."""

    fault = "steering"


class StorageFault(InfrastructureError):
    """A file of the run cannot be written: the disk is full, read-only or broken."""


class ProcessStopped(InfrastructureError):
    """The process of a trial was stopped for a while, and what it waited for was not."""

    fault = "stopped"


class VerifierFault(InfrastructureError):
    """The verifier gave no usable reward: it is missing, empty or not a number, or the verifier timed out."""

    fault = "verifier"
    notes: tuple[str, ...] = ()
    """What became of the agent's work before the verifier saw it, in sentences."""


class FileTooLarge(InfrastructureError):
    """A file of a sandbox is larger than what is read of one."""


class StepFault(InfrastructureError):
    """A step of a task cannot begin: its `setup.sh` failed, or its healthcheck did."""

    fault = "task"


class TaskChanged(InfrastructureError):
    """The files of a task were changed while the run went on, so that its trials would not be alike."""

    fault = "task"


class StorageExceeded(CapvecError):
    """A container wrote more to the disk than it may, and was ended. What an agent does to itself is no fault."""


class ContextOverflow(InfrastructureError):
    """The prompt does not fit the model's context, so the model was not called."""

    fault = "context"


_NAME = re.compile(r"(?:\w+\.)*(\w*)")
_DISK = re.compile(r"no space left|disk quota exceeded|read-only file system", re.IGNORECASE)
_NETWORK = re.compile(r"network is unreachable|no route to host|name resolution|could not resolve", re.IGNORECASE)


def fault_of(error: str) -> str:
    """The class of an error from the text that a trial keeps of it, `SandboxUnavailable: Docker failed: ...`.

    Returns:
        `docker`, `engine`, `steering`, `verifier`, `task`, `context`, `disk`, `network`, `worker` for a trial whose
        process ended, `stopped` for one whose process stood still, or `other`. Docker's own words tell a full disk and
        a network that is down.
    """
    match = _NAME.match(error)
    name = match[1] if match else ""
    found = {one.__name__: one.fault for one in _all(InfrastructureError)}.get(name, "other")
    if found in ("docker", "other"):
        found = "disk" if _DISK.search(error) else "network" if _NETWORK.search(error) else found
    return "worker" if found == "other" and name == "worker" else found


def _all(base: type[CapvecError]) -> list[type[CapvecError]]:
    return [base, *(found for one in base.__subclasses__() for found in _all(one))]
