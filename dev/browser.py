"""Chromium for the tests of `report.html`; nothing else needs a browser."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable

from capvec.errors import UsageError
from capvec.setup import debian

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find_browser() -> str | None:
    """The path of a Chromium or Chrome, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def ensure_browser(say: Callable[[str], None]) -> None:
    """Install chromium where there is no browser, on Debian and as root; without one the tests that need it skip.

    Not on Ubuntu, where the package of that name installs a snap.
    """
    if find_browser() is not None:
        return
    if not debian.can_install() or platform.freedesktop_os_release().get("ID") != "debian":
        say("found no Chromium, and cannot install it here: the tests of report.html in a browser will be skipped")
        return
    say("installing chromium, for the tests of report.html")
    try:
        debian.install("chromium")
    except UsageError as error:
        say(f"{error}\nWithout it the tests of report.html in a browser are skipped.")


if __name__ == "__main__":
    ensure_browser(lambda line: print(f"capvec: {line}", flush=True))
