"""The users of a container: names as task folders give them, turned into numbers before an agent can change them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from capvec.errors import UsageError

ROOT = "0"
PASSWD, GROUP = "/etc/passwd", "/etc/group"


@dataclass
class Users:
    """Looks names up in the files of one image, and remembers them for as long as the container lives."""

    read: Callable[[str], bytes | None]
    """Reads a file of the container."""
    default: str
    """The image's own user, as `docker inspect` shows it."""
    _known: dict[str, str] = field(default_factory=dict)

    def number(self, user: str | None) -> str:
        """The number of a user, with that of a group where one is named; None is the image's own user.

        Raises:
            UsageError: the image has no such user.
        """
        name = user or self.default
        if name not in self._known:
            self._known[name] = self._look_up(name)
        return self._known[name]

    def _look_up(self, name: str) -> str:
        user, colon, group = name.partition(":")
        return self._find(user, PASSWD, "user") + (colon + self._find(group, GROUP, "group") if group else "")

    def _find(self, name: str, file: str, kind: str) -> str:
        if name.isdecimal():
            return name
        if name == "root":
            return ROOT
        for line in (self.read(file) or b"").decode(errors="replace").splitlines():
            fields = line.split(":")
            if len(fields) > 2 and fields[0] == name and fields[2].isdecimal():
                return fields[2]
        raise UsageError(f"the image has no {kind} {name!r}; expected one of its {file}, or a number")
