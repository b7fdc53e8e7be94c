"""Files into a container and out of it, as the tar archives that Docker takes and gives."""

from __future__ import annotations

import io
import posixpath
import tarfile
from collections.abc import Generator, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import docker.errors

from capvec.errors import FileTooLarge
from capvec.sandbox.docker_api import TooLong, joined, read_properties

READ_LIMIT = 1 << 20
"""Bytes of the largest file that is fetched."""
_ARCHIVE = READ_LIMIT + (64 << 10)
"""Bytes of the archive of such a file, whose names may be long."""
_LINK, _FOLDER = 27, 31
"""Bits of Go's `os.FileMode`, as Docker reports it."""
_MOST_LINKS = 40
"""Links on the way to a file, as many as Linux follows."""


def pack(source: Path, folder: str = "") -> bytes:
    """An archive of what is in a folder, and of a folder around it if one is given; root's, and readable by all."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        if folder:
            archive.addfile(_made(folder, 0o755))
        for path in sorted(source.rglob("*")):
            name = posixpath.join(folder.lstrip("/"), path.relative_to(source).as_posix())
            archive.add(path, arcname=name, recursive=False, filter=_as_root)
    return buffer.getvalue()


def folders(paths: Iterable[str], mode: int = 0o777) -> bytes:
    """An archive of empty folders of root's, which every user may write to unless the mode says otherwise."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in paths:
            archive.addfile(_made(path, mode))
    return buffer.getvalue()


def _made(folder: str, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(folder.lstrip("/"))
    member.type, member.mode = tarfile.DIRTYPE, mode
    return member


def put(api: Any, container: str, target: str, source: Path) -> None:
    """Copy the content of a folder into a folder of a container, as `docker cp FOLDER/.` does.

    A folder that is there keeps its owner and its mode. One that is not is made for root, in the place of whatever else
    has its name.
    """
    try:
        api.put_archive(container, target, pack(source))
    except docker.errors.APIError as error:
        if not _says_no_such_file(error):
            raise
        error.response.close()
        api.put_archive(container, "/", pack(source, target))


def tree(api: Any, container: str, path: str) -> Generator[bytes] | None:
    """The archive of a file or folder of a container with all that is in it; None if there is neither.

    A link is neither, wherever it leads. On the way to the path only links of the image are followed, since others may
    lead to what their maker could not have read.
    """
    above, name = posixpath.split(posixpath.normpath(path))
    folder = _folder(api, container, above)
    if folder is None or not name or (found := _archive(api, container, posixpath.join(folder, name))) is None:
        return None
    chunks, stat = found
    if not _is_regular(stat["mode"]) and not stat["mode"] >> _FOLDER & 1:
        _abandon(chunks)
        return None
    return chunks


def is_folder(api: Any, container: str, path: str) -> bool:
    """Whether a container has a folder at this path, or a link there."""
    stat = _ask(api, container, path)
    return stat is not None and any(stat["mode"] >> bit & 1 for bit in (_FOLDER, _LINK))


def _ask(api: Any, container: str, path: str) -> dict[str, Any] | None:
    """What Docker says of a path of a container; None if there is nothing.

    It is asked for the path's properties alone, which takes it a few milliseconds. Nothing is opened.
    """
    if (stat := _properties(api, container, path)[1]) is not None:
        return stat
    if (found := _archive(api, container, path)) is None:  # says why, unlike the answer to the question above
        return None
    chunks, stat = found
    _abandon(chunks)
    return stat


def _properties(api: Any, container: str, path: str) -> tuple[int, dict[str, Any] | None]:
    """The status of Docker's answer, and what it says of a path; None if it says nothing."""
    asked = f"{api.base_url}/v{api.api_version}/containers/{container}/archive"
    with api.head(asked, params={"path": path}, timeout=api.timeout) as answer:
        said = answer.headers.get("X-Docker-Container-Path-Stat")
        return answer.status_code, None if said is None else read_properties(said)


def size_of(api: Any, container: str, path: str) -> int | None:
    """Bytes of the regular file at a path of a container, links followed; 0 for nothing, None for anything else."""
    for _ in range(2):
        status, stat = _properties(api, container, path)
        if status == 404:
            return 0
        if stat is None:
            _ask(api, container, path)  # which raises what has failed, unless it is the path
            return None
        if not stat["linkTarget"]:
            return int(stat["size"]) if _is_regular(stat["mode"]) else None
        path = stat["linkTarget"]
    return None


def _folder(api: Any, container: str, path: str) -> str | None:
    """A folder with the image's links followed; None if there is none, or another link is on the way to it."""
    way, parts, links = "/", path.split("/"), 0
    while parts:
        part = parts.pop(0)
        if part in ("", "."):
            continue
        if part == "..":
            way = posixpath.dirname(way)
            continue
        step = posixpath.join(way, part)
        if (stat := _ask(api, container, step)) is None:
            return None
        if not stat["mode"] >> _LINK & 1:
            way = step
            continue
        if (found := _archive(api, container, step)) is None:
            return None
        aim = _aim(joined(found[0], _ARCHIVE))
        if (links := links + 1) > _MOST_LINKS or not _is_of_image(api, container, step):
            return None
        way, parts = "/" if aim.startswith("/") else way, [*aim.split("/"), *parts]
    return way


def _aim(archive: bytes) -> str:
    """Where the link leads that an archive holds."""
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as opened:
        return opened.getmembers()[0].linkname


def _is_of_image(api: Any, container: str, path: str) -> bool:
    """Whether a path of a container is as its image has it. What lies on a volume is not.

    Where so much has changed that Docker's list of it is not read to its end, nothing counts as the image's.
    """
    mounts = [mount["Destination"] for mount in api.inspect_container(container)["Mounts"]]
    if any(PurePosixPath(path).is_relative_to(mount) for mount in mounts):
        return False
    try:
        return all(change["Path"] != path for change in api.diff(container) or ())
    except TooLong:
        return False


def _archive(api: Any, container: str, path: str) -> tuple[Generator[bytes], dict[str, Any]] | None:
    """The archive of a path of a container and what Docker says of it; None if nothing is there."""
    try:
        return api.get_archive(container, path)  # type: ignore[no-any-return]
    except docker.errors.APIError as error:
        if not _says_no_such_file(error):
            raise  # the container is gone, not the file
        error.response.close()
        return None


def unpack(archive: bytes) -> bytes | None:
    """The content of the one regular file of an archive; None if it holds something else."""
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as opened:
        member = opened.next()
        file = opened.extractfile(member) if member is not None and member.isfile() else None
        return file.read() if file is not None else None


def read(api: Any, container: str, path: str) -> bytes | None:
    """The content of a regular file of a container; None for anything else. See `fetch`."""
    archive = fetch(api, container, path)
    return None if archive is None else unpack(archive)


def fetch(api: Any, container: str, path: str) -> bytes | None:
    """The archive of a regular file of a container; None for anything else, links included.

    Raises:
        FileTooLarge: it is larger than `READ_LIMIT`.
    """
    if (found := _archive(api, container, path)) is None:
        return None
    chunks, stat = found
    if not _is_regular(stat["mode"]):
        _abandon(chunks)
        return None
    if stat["size"] > READ_LIMIT:
        _abandon(chunks)
        raise FileTooLarge(
            f"{path} in the sandbox has {stat['size']} bytes; expected at most {READ_LIMIT}: write less to it"
        )
    return joined(chunks, _ARCHIVE)


def _as_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Owned by root and readable by all, independent of the host's umask; executable if it was, or is a script."""
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    if member.isdir() or member.isreg():
        runs = member.isdir() or member.mode & 0o100 or member.name.endswith(".sh")
        member.mode = 0o755 if runs else 0o644
    return member


def _is_regular(mode: int) -> bool:
    """Whether a mode of Go's `os.FileMode`, as Docker reports it, is that of a regular file."""
    kinds = (_FOLDER, _LINK, 26, 25, 24, 21, 19)  # the last: device, pipe, socket, character device, irregular
    return not any(mode >> bit & 1 for bit in kinds)


def _abandon(chunks: Generator[bytes]) -> None:
    """Close the connection of an archive without reading the rest, which may be of any size."""
    next(chunks, None)
    chunks.close()


def _says_no_such_file(error: docker.errors.APIError) -> bool:
    said = str(error.explanation).lower()
    missing = isinstance(error, docker.errors.NotFound) and "no such container" not in said
    # Of a link Docker looks up where it leads: nowhere (`too many links`), or to a name that no file can have.
    return missing or any(why in said for why in ("not a directory", "too many l", "file name too long"))
