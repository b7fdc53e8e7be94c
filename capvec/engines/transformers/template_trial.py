"""A first rendering of a model's chat template, as a program in a process of its own.

A template is a program of the model's author. It runs in Jinja's sandbox, which reads no file and runs no other code,
and which has no bound on time or memory: two loops, or one product of a text, are enough to stop an engine for ever. So
a template that this machine has not seen renders a conversation here first, within bounds.
"""

from __future__ import annotations

import hashlib
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from capvec.cache import cache_root
from capvec.engines.chat_template import ChatTemplate
from capvec.engines.render import with_marks
from capvec.engines.template_probes import inspect_template
from capvec.errors import UsageError
from capvec.programs import python

SECONDS, BYTES = 20, 2 << 30
TURNS = 100
"""Of a user and the model, as many as a long trial has."""
EXCEEDED = 2
"""Exit code where memory did not suffice."""


def tried_template(tokenizer: Any, name: str, seconds: int = SECONDS) -> ChatTemplate:
    """What `inspect_template` finds, of a template that was tried first.

    Args:
        tokenizer: of transformers.
        name: of the model, for errors.
        seconds: of processor time that the trial may take.

    Raises:
        UsageError: the template takes more time or memory than any should, or `inspect_template` refuses it.
    """
    with suppress(ValueError):  # of several templates none is the default
        if getattr(tokenizer, "chat_template", None):
            _try(tokenizer.get_chat_template(), tokenizer.special_tokens_map, name, seconds)
    return with_marks(inspect_template(tokenizer, name))


def _try(source: str, special: Mapping[str, Any], name: str, seconds: int) -> None:
    """Render a conversation, unless that went well on this machine before."""
    tokens = {role: token for role, token in special.items() if isinstance(token, str)}
    asked = json.dumps({"template": source, "special": tokens}, sort_keys=True).encode()
    seen = cache_root() / "templates" / hashlib.sha256(asked).hexdigest()
    if seen.exists():
        return
    ended = subprocess.run(python(__name__, str(seconds)), check=False, input=asked, capture_output=True).returncode
    if ended not in (0, 1):  # one that refuses the conversation is told by `inspect_template`
        raise UsageError(
            f"the chat template of {name!r} cannot render a conversation of {2 * TURNS} messages within {seconds} s of "
            f"processor time and {BYTES >> 30} GiB of memory; expected a template that only joins its messages"
        )
    with suppress(OSError):  # without a cache it is tried again
        seen.parent.mkdir(parents=True, exist_ok=True)
        seen.touch()


def main() -> int:
    """Read a template and render it. Returns 0, 1 where it refuses, and `EXCEEDED`."""
    from transformers.utils.chat_template_utils import render_jinja_template  # noqa: PLC0415

    asked = json.load(sys.stdin)
    pair = {"role": "user", "content": "Count the lines."}, {"role": "assistant", "content": "There are 3."}
    last = math.ceil(time.process_time()) + int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CPU, (last, last))
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    try:
        for prompt in (False, True):
            render_jinja_template(
                [[*pair * TURNS]], chat_template=asked["template"], add_generation_prompt=prompt, **asked["special"]
            )
    except MemoryError:
        return EXCEEDED
    except Exception:  # whatever a template raises
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
