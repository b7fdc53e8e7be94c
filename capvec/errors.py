"""The exceptions of capvec, in two groups, and one that is neither: `StorageExceeded`.

The user can correct a `UsageError`: a bad option, a broken task folder, a direction that does not fit the model. An
`InfrastructureError` is a failure of the measurement: Docker is down, the engine died, a hook did not fire. A trial
that meets one has the outcome `error` and is never counted as unsolved.
"""

from __future__ import annotations


class CapvecError(Exception):
    """Base of all errors that capvec raises; the message is complete and written for the user."""


class UsageError(CapvecError):
    """Bad input; the message says what was received, what was expected and what to do."""


class InfrastructureError(CapvecError):
    """The infrastructure failed, so the trial measured nothing."""


class SandboxUnavailable(InfrastructureError):
    """Docker, an image or a container is not usable. A command that fails in a container does not raise this."""


class EnvironmentFault(InfrastructureError):
    """The container of a task does not become ready: its ENTRYPOINT ends, or its healthcheck fails."""


class EngineUnavailable(InfrastructureError):
    """The engine cannot be reached, refused the request, or died."""


class SteeringFault(InfrastructureError):
    """A receipt does not show the requested steer."""


class StorageFault(InfrastructureError):
    """A file of the run cannot be written: the disk is full, read-only or broken."""


class VerifierFault(InfrastructureError):
    """The verifier gave no usable reward: it is missing, empty or not a number, or the verifier timed out."""

    notes: tuple[str, ...] = ()
    """What became of the agent's work before the verifier saw it, in sentences."""


class StepFault(InfrastructureError):
    """A step of a task cannot begin: its `setup.sh` failed, or its healthcheck did."""


class StorageExceeded(CapvecError):
    """A container wrote more to the disk than it may, and was ended. What an agent does to itself is no fault."""


class ContextOverflow(InfrastructureError):
    """The prompt does not fit the model's context, so the model was not called."""
