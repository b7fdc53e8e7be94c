"""`python -m capvec.setup.model`: makes the bundled model, as a process of its own beside the other steps of set-up."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import IO

from capvec.errors import UsageError
from capvec.exits import exit_code_of
from capvec.models import ensure_pocket, pocket_folder
from capvec.models.weights import is_ready
from capvec.programs import python


@contextmanager
def model_meanwhile(say: Callable[[str], None]) -> Iterator[None]:
    """Make the bundled model while the block runs, if it is missing, and wait for it after the block.

    A block that fails, or a signal, ends the process that makes it, which leaves nothing half made.

    Args:
        say: prints one line of progress.

    Raises:
        UsageError: the model cannot be made, as `ensure_pocket` says it.
    """
    if is_ready(pocket_folder()):
        yield
        return
    command = python("capvec.setup.model")
    with (
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
        ThreadPoolExecutor(2) as readers,
    ):
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            readers.submit(_relay, process.stdout, say)
            said = readers.submit(process.stderr.read)
            yield
            code = process.wait()
        finally:
            process.terminate()
    if code:
        error = said.result().strip().removeprefix("capvec: ")
        raise UsageError(error or f"`{' '.join(command[1:])}` ended with {code}")


def _relay(lines: IO[str], say: Callable[[str], None]) -> None:
    for line in lines:
        say(line.rstrip("\n"))


def main() -> int:
    """Run the command. Returns its exit code, as `exit_code_of`."""

    def command() -> int:
        ensure_pocket(lambda line: print(line, flush=True))
        return 0

    return exit_code_of(command)


if __name__ == "__main__":
    sys.exit(main())
