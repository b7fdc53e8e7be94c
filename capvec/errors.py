"""The two families of failure, kept apart by type.

A `UsageError` is the user's to mend: a bad option, a broken task folder, a direction that does not fit the model.
An `InfrastructureError` is the instrument's: Docker is down, the engine died, a hook did not fire. A trial that meets
one ends in `error`; it is never counted as unsolved.
"""

from __future__ import annotations


class CapvecError(Exception):
    """Base of every error that capvec raises on purpose; its message is complete and meant for a person."""


class UsageError(CapvecError):
    """Bad input. The message says what was received, what was expected and what to do."""


class InfrastructureError(CapvecError):
    """The instrument failed, so the trial measured nothing."""


class SandboxUnavailable(InfrastructureError):
    """The container engine, the image or the container is not usable (not: a command in it failed)."""


class EngineUnavailable(InfrastructureError):
    """The engine cannot be reached, refused the request, or died."""


class SteeringFault(InfrastructureError):
    """A receipt does not show the steer that was asked for."""


class VerifierFault(InfrastructureError):
    """The verifier gave no usable reward: missing, empty, not a number, or it ran out of time."""


class ContextOverflow(InfrastructureError):
    """The prompt we built does not fit the model's context, so the model was never asked."""
