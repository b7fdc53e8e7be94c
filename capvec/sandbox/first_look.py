"""What a Docker says of itself: asked within bounds of size and time, and checked before it is used."""

from __future__ import annotations

import re
from typing import Any

import docker

from capvec.errors import UsageError
from capvec.parsing import parse_json
from capvec.reading import MIB, shown
from capvec.sandbox.docker_forms import NoDocker, check_answer
from capvec.serial import check_fields
from capvec.text import one_line

_LARGEST = 4 * MIB
"""Bytes of an answer; a busy Docker with many plugins and warnings says less than a tenth of this."""
_SHOWN = 120
"""Characters of what it said in a message."""
_OK = 200
_API = re.compile(r"[0-9]{1,4}\.[0-9]{1,4}")


class _Version:
    ApiVersion: str
    Arch: str
    Version: str


class _Info:
    ID: str
    Name: str
    DockerRootDir: str
    ServerVersion: str
    CgroupDriver: str
    NCPU: int


def version_of(client: docker.DockerClient, timeout_s: float) -> dict[str, Any]:
    """What a Docker says under `/version`: it has `ApiVersion`, `Arch` and `Version`, each a text.

    Args:
        client: of the Docker.
        timeout_s: seconds for the whole answer.

    Raises:
        NoDocker: it says anything else, or too much.
        OSError: it says nothing, or not all of it in time.
    """
    version = _said(client, "version", timeout_s, _Version, ("ApiVersion", "Arch", "Version"))
    if not _API.fullmatch(asked := version["ApiVersion"]):  # with some texts the SDK would ask again, without bounds
        raise NoDocker(f"its version.ApiVersion is {asked[:_SHOWN]}; expected one such as 1.41")
    return version


def info_of(client: docker.DockerClient, timeout_s: float) -> dict[str, Any]:
    """What a Docker says under `/info`: it has `NCPU`, at least 1, and `ServerVersion`, a text.

    Args:
        client: of the Docker.
        timeout_s: seconds for the whole answer.

    Raises:
        NoDocker: it says anything else, or too much.
        OSError: it says nothing, or not all of it in time.
    """
    info = _said(client, "info", timeout_s, _Info, ("NCPU", "ServerVersion"))
    if info["NCPU"] < 1:
        raise NoDocker(f"its info.NCPU is {info['NCPU']}; expected at least 1")
    return info


def _said(
    client: docker.DockerClient, what: str, timeout_s: float, form: type, needed: tuple[str, ...]
) -> dict[str, Any]:
    data = _answer(client, what, timeout_s)
    try:
        said = parse_json(data, finite=True)
        check_fields(form, said, what)
    except (ValueError, UsageError) as error:
        raise NoDocker(f"its {what} cannot be used: {one_line(str(error))}") from error
    if lacking := [name for name in needed if name not in said]:
        raise NoDocker(f"its {what} lacks {', '.join(lacking)}")
    for name in form.__annotations__:
        if isinstance(value := said.get(name), str) and not value.isprintable():
            raise NoDocker(f"its {what}.{name} is {shown(value)[:_SHOWN]}; expected a text that can be printed")
    return dict(check_answer("GET", f"/{what}", said))


def _answer(client: docker.DockerClient, what: str, timeout_s: float) -> bytes:
    """The body of an answer."""
    api = client.api
    url = api._url(f"/{what}", versioned_api=what != "version")
    response = api._get(url, stream=True, timeout=timeout_s)
    data: bytes = api.body(response, f"GET /{what}", timeout_s, _LARGEST)
    if response.status_code != _OK:
        said = one_line(data.decode(errors="replace"))[:_SHOWN]
        raise NoDocker(f"asked for its {what}, it answers with status {response.status_code}: {said}")
    return data
