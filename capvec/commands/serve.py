"""`capvec serve`: an engine that runs until Ctrl-C, and publishes configs to any client."""

from __future__ import annotations

import argparse
import ipaddress
import socket
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from capvec.cache import cache_root
from capvec.commands.shared import say
from capvec.errors import EngineUnavailable, UsageError
from capvec.plan.option_help import options_of
from capvec.plan.options import engine_args_of, parse_options

if TYPE_CHECKING:
    from capvec.engines.process import RunningEngine
    from capvec.plan.options import SweepOptions

EPILOG = """\
Without an option of steering or of building the direction there is one model,
baseline. With one, the configs are those of a sweep with the same options.

example: capvec serve --direction dir.pt --layer 22 --alpha 2,4 \\
           --controls random:2 --receipts receipts.jsonl
"""


def run(options: argparse.Namespace) -> int:
    """Serve until Ctrl-C.

    Raises:
        UsageError: the model or the direction cannot be used, or other machines would reach the server unasked.
        EngineUnavailable: the engine ended by itself.
    """
    import psutil  # noqa: PLC0415

    from capvec.engines.process import start_engine  # noqa: PLC0415
    from capvec.engines.selection import choose  # noqa: PLC0415
    from capvec.models import resolve_model  # noqa: PLC0415

    if not options.allow_remote:
        _check_host(options.host)
    asked, receipts = _asked(options), _receipts(options.receipts)
    source = resolve_model(options.model)
    choice = choose(options.engine, engine_args_of(options.engine_arg), source.path_or_id)
    log = cache_root() / "engine.log" if options.log is None else Path(options.log)
    log.parent.mkdir(parents=True, exist_ok=True)
    started = start_engine(
        source,
        log_path=log,
        choice=choice,
        host=options.host,
        port=options.port,
        token=options.token or "",
        receipts=receipts,
    )
    with started as engine:
        names = _publish(asked, engine)
        print(_announcement(source.name, choice.in_words, engine, names), flush=True)
        # An engine that ended is a zombie until its parent, this process, asks for its status.
        while psutil.Process(engine.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(1)
    raise EngineUnavailable(f"the engine ended by itself; {log} says why")


def _check_host(host: str) -> None:
    """Refuse an address that other machines reach.

    Raises:
        UsageError: it is one, or no address.
    """
    try:
        found = {str(address[0]) for *_, address in socket.getaddrinfo(host, None)}
    except OSError as error:
        raise UsageError(f"--host {host}: {error.strerror or error}; expected an address of this machine") from error
    if not all(ipaddress.ip_address(one.partition("%")[0]).is_loopback for one in found):
        raise UsageError(
            f"--host {host}: other machines reach that address, and nothing is encrypted, the token included; leave it "
            "out, or add --allow-remote"
        )


def _receipts(path: str | None) -> Path | None:
    """The file of the receipts, which can be written."""
    if path is None:
        return None
    try:
        with closing(Path(path).open("a", encoding="utf-8")):
            return Path(path).absolute()
    except OSError as error:
        raise UsageError(f"--receipts {path}: {error.strerror}; expected a file that can be written") from error


def _asked(options: argparse.Namespace) -> SweepOptions | None:
    """The options of the sweep whose configs are published; None where no option asks for steering.

    Raises:
        UsageError: a bad option, or a file that cannot be read.
    """
    from capvec.directions.direction import named_direction  # noqa: PLC0415
    from capvec.traces import check_traces  # noqa: PLC0415

    steering = {option.name for option in options_of("serve") if option.group in ("steering", "recipe")} | {"controls"}
    if not steering & set(options.typed):
        return None
    asked = parse_options(options.typed, "serve")
    if any(control.kind == "constrained" for control in asked.controls):
        raise UsageError(
            "--controls constrained: a server does not know by which protocol its clients act; send it the regular "
            "expression of their replies in structured_outputs, and leave constrained out"
        )
    for option, named in (("--direction", asked.direction), ("--reference", asked.reference)):
        if named is not None:
            named_direction(option, named)
    if asked.traces is not None:
        check_traces(Path(asked.traces))
    return asked


def _publish(asked: SweepOptions | None, engine: RunningEngine) -> tuple[str, ...]:
    """Publish the configs that are asked for, or the baseline alone. Returns their names."""
    from capvec.engines.client import EngineClient  # noqa: PLC0415
    from capvec.engines.published import BASELINE  # noqa: PLC0415
    from capvec.plan.plan import settings_for  # noqa: PLC0415
    from capvec.run.study import StudyContext  # noqa: PLC0415
    from capvec.studies.sweep_design import design_configs  # noqa: PLC0415

    with EngineClient(engine.url, engine.token) as client:
        if asked is None:
            return client.publish([BASELINE])
        health = client.health()
        settings = settings_for(asked, health.defaults, health.model, health.template)
        with TemporaryDirectory(prefix="capvec-") as folder:
            context = StudyContext(client, health, settings, Path(folder), say)
            return client.publish(design_configs(asked, context).configs)


def _announcement(model: str, engine: str, running: RunningEngine, names: tuple[str, ...]) -> str:
    """What a user needs to use the server."""
    from capvec.engines.protocol import TOKEN_VARIABLE  # noqa: PLC0415

    return (
        f"serving {model} with {engine}; use it with\n"
        f"  {TOKEN_VARIABLE}={running.token} pytest … --base-url {running.url}\n"
        f"and from any OpenAI client, as the models {', '.join(names)}, with\n"
        f"  OPENAI_API_KEY={running.token} OPENAI_BASE_URL={running.url}/v1"
    )
