"""What a Dockerfile asks of the program that builds it."""

from __future__ import annotations

import re

_FEATURES = {
    "a heredoc": r"^\s*(?:ONBUILD\s+)?(?:RUN|COPY|ADD)\b[^\n]*(?<!<)<<-?[\"']?[A-Za-z_]",
    "RUN --mount": r"^\s*(?:ONBUILD\s+)?RUN\s[^\n]*--mount=",
    "RUN --network": r"^\s*(?:ONBUILD\s+)?RUN\s[^\n]*--network=",
    "RUN --security": r"^\s*(?:ONBUILD\s+)?RUN\s[^\n]*--security=",
    "COPY --chmod": r"^\s*(?:ONBUILD\s+)?(?:COPY|ADD)\s[^\n]*--chmod=",
    "COPY --link": r"^\s*(?:ONBUILD\s+)?(?:COPY|ADD)\s[^\n]*--link\b",
    "COPY --parents": r"^\s*(?:ONBUILD\s+)?COPY\s[^\n]*--parents\b",
    "COPY --exclude": r"^\s*(?:ONBUILD\s+)?(?:COPY|ADD)\s[^\n]*--exclude=",
    "ADD --checksum": r"^\s*(?:ONBUILD\s+)?ADD\s[^\n]*--checksum=",
}
_PLATFORM = re.compile(r"^\s*ARG\s+[^\n]*\b(?P<name>(?:TARGET|BUILD)(?:PLATFORM|OS|ARCH|VARIANT))\s*$", re.M | re.I)
_DIRECTIVE = re.compile(r"\s*#\s*(?P<key>[A-Za-z]+)\s*=\s*(?P<value>\S+)\s*$")
FRONTEND = "docker/dockerfile"
"""The image of Docker's own frontend, which reads Dockerfiles."""
_OFFICIAL = re.compile(rf"(?:docker\.io/)?{FRONTEND}(?:-upstream)?(?::|@|$)")


def buildkit_features(text: str) -> tuple[str, ...]:
    """What the Dockerfile uses that only BuildKit has, such as `RUN --mount`."""
    found = [name for name, pattern in _FEATURES.items() if re.search(pattern, text, re.MULTILINE | re.IGNORECASE)]
    # The classic builder leaves these empty, without an error.
    return (*found, *(f"ARG {match['name']}" for match in _PLATFORM.finditer(text)))


def syntax(text: str) -> str | None:
    """The image of the frontend that a `# syntax=` directive at the start names; None without one."""
    for line in text.lstrip("\ufeff").splitlines():
        directive = _DIRECTIVE.match(line)
        if directive is None:
            return None  # directives end at the first other line
        if directive["key"].lower() == "syntax":
            return directive["value"]
    return None


def without_syntax(text: str) -> str | None:
    """The Dockerfile without its directive, so that the frontend in Docker itself reads it; line numbers stay.

    None if there is no directive, or if it names a frontend that is not Docker's own.
    """
    image = syntax(text)
    if image is None or not _OFFICIAL.match(image):
        return None
    return re.sub(r"^\ufeff?\s*#\s*syntax\s*=[^\n]*$", "#", text, count=1, flags=re.MULTILINE | re.IGNORECASE)
