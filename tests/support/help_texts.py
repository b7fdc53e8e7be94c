"""Reading help texts: which options they name, and what they say of each."""

import re


def options_in(text: str) -> dict[str, str]:
    """Option or positional argument → what stands beside it, with single spaces.

    Args:
        text: what `--help` prints, or the part of it that is meant.
    """
    entries: list[tuple[str, str]] = []
    for line in text.splitlines():
        if entry := re.match(r"  (?:-h, )?(--[\w-]+|[A-Z]+)\b(?:[ =](\S+))?\s*(.*)", line):
            entries.append((entry[1], f"{entry[2] or ''} {entry[3]}"))
        elif entries and line.startswith("    "):
            entries[-1] = (entries[-1][0], f"{entries[-1][1]} {line}")
        elif not line.startswith(" "):
            entries.append(("", ""))  # a heading ends the entry above it
    return {name: " ".join(shown.split()) for name, shown in entries if name}
