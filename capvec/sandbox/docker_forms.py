"""The form of what Docker answers, as far as capvec and the SDK read it."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any

import docker.errors

from capvec.text import one_line

Form = Any
"""A type; a function that tells whether a value fits; a list of one form, for lists; a dict of forms, for objects; or
a tuple of alternatives, of which `...` stands for a key that is missing."""
_SHOWN = 60
"""Characters of a value in a message."""


class NoDocker(docker.errors.DockerException):  # type: ignore[misc]
    """What answers is no Docker, or one that says nonsense; the message says what it said."""


def _is_time(value: Any) -> bool:
    """Whether a value is a time as `Origin.of` reads it."""
    try:
        time.strptime(str(value).rstrip("Z").partition(".")[0], "%Y-%m-%dT%H:%M:%S")
    except ValueError:
        return False
    return True


def _is_whole(value: Any) -> bool:
    return type(value) is int and -(1 << 63) <= value < 1 << 63


def _are_labels(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())


_TEXT = (..., None, str)
_TEXTS = (None, [str])
_LABELS = (None, _are_labels)
_CREATED = {"Id": str}
_STATE = {"Status": str, "Running": bool, "Paused": bool, "ExitCode": _is_whole, "StartedAt": _is_time}
_IMAGE = {
    "Id": str,
    "Architecture": str,
    "Config": (
        None,
        {"User": _TEXT, "WorkingDir": _TEXT, "Entrypoint": (..., *_TEXTS), "Healthcheck": (..., None, dict)},
    ),
    "RootFS": (..., None, {"Layers": (..., *_TEXTS)}),
}
_CONTAINER = {
    "Id": str,
    "Image": str,
    "State": {**_STATE, "Health": (..., None, {"Status": (..., str)})},
    "Config": {"Env": _TEXTS, "Labels": _LABELS},
    "Mounts": [{"Destination": str}],
}
_FORMS: Sequence[tuple[str, str, Form]] = (
    ("GET", "/images/.+/json", _IMAGE),
    ("GET", "/containers/json", [{"Id": str, "State": str, "Labels": _LABELS, "SizeRw": (..., None, _is_whole)}]),
    ("GET", "/containers/[^/]+/json", _CONTAINER),
    ("GET", "/containers/[^/]+/changes", (None, [{"Path": str}])),
    ("POST", "/containers/create", _CREATED),
    ("POST", "/containers/[^/]+/exec", _CREATED),
    ("GET", "/exec/[^/]+/json", {"ExitCode": (None, _is_whole), "Running": bool}),
    ("GET", "/networks", [{"Id": str, "Labels": _LABELS}]),
    ("GET", "/networks/[^/]+", _CREATED),
    ("POST", "/networks/create", _CREATED),
    ("GET", "/volumes", {"Volumes": (None, [{"Name": str, "Labels": _LABELS}])}),
    ("GET", "/info", {"NCPU": _is_whole}),
    ("GET", "/version", {"Components": (..., None, [{"Name": str}])}),
    ("HEAD", "/archive", {"mode": _is_whole, "size": _is_whole, "linkTarget": str}),
)
_ENTRY = dict.fromkeys(("error", "status", "id", "stream"), (..., str))
"""What a pull or an import says in one line."""


def check_answer(method: str, path: str, value: Any) -> Any:
    """The value of an answer.

    Args:
        method: of the request.
        path: of the request, with or without the version of the API.
        value: of the answer's JSON.

    Raises:
        NoDocker: it is not of the form that Docker's answer to this has; the message names the place.
    """
    plain = without_version(path)
    for known, pattern, form in _FORMS:
        if known == method and re.fullmatch(pattern, plain):
            if misfit := _misfit(value, form, "its answer"):
                raise NoDocker(f"{misfit} to {method} {one_line(plain)}")
            break
    return value


def without_version(path: str) -> str:
    """The path of a request without the version of the API."""
    return re.sub(r"^/v[0-9.]+/", "/", path)


def check_entry(value: Any) -> Any:
    """The value of a line of a pull or an import.

    Raises:
        NoDocker: it is not of Docker's form.
    """
    if misfit := _misfit(value, _ENTRY, "a line"):
        raise NoDocker(misfit)
    return value


def _misfit(value: Any, form: Form, where: str) -> str:
    """What of a value does not fit; empty if all does."""
    if isinstance(form, tuple):
        reasons = [_misfit(value, one, where) for one in form]
        return "" if "" in reasons else reasons[-1]
    if isinstance(form, list) and isinstance(value, list):
        return next(filter(None, (_misfit(one, form[0], f"{where}[{at}]") for at, one in enumerate(value))), "")
    if isinstance(form, dict) and isinstance(value, dict):
        return next(
            filter(None, (_misfit(value.get(key, ...), one, f"{where}.{key}") for key, one in form.items())), ""
        )
    return "" if _fits(value, form) else f"{where} is {one_line(repr(value))[:_SHOWN]}, which is not Docker's,"


def _fits(value: Any, form: Form) -> bool:
    if form is None or form is ... or isinstance(form, list | dict):
        return form is value
    return isinstance(value, form) if isinstance(form, type) else bool(form(value))
