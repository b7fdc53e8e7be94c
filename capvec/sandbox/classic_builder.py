"""A build by the SDK, as a program: `python -m capvec.sandbox.classic_builder FOLDER TAG`.

A program of its own can be ended in the middle of a build, as the Docker command line can, and has settings of its own.
Docker then stops the build, since nobody listens. What is printed is Docker's log; the exit code is 1 for a failure.
"""

from __future__ import annotations

import sys
import warnings

import docker

from capvec.sandbox.docker_host import FAULTS, reason

_SILENCE_S = 7 * 24 * 3600
"""How long a step may print nothing; the parent ends the build before."""


def main(folder: str, tag: str) -> int:
    """Build a folder's Dockerfile by Docker's classic builder, or by Podman's."""
    warnings.simplefilter("ignore")  # about credential helpers, which an error tells of too
    try:
        client = docker.from_env(timeout=_SILENCE_S)
        for entry in client.api.build(path=folder, tag=tag, rm=True, forcerm=True, decode=True):
            print(entry.get("stream", ""), end="", flush=True)
            if "error" in entry:
                print(f"ERROR: {entry['error']}")
                return 1
    except FAULTS as error:
        print(f"ERROR: {reason(error)}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
