"""The `capvec` command: set-up, doctor, a standing engine, collecting traces, baking. Sweeps are pytest's."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from capvec import __version__
from capvec.errors import CapvecError, EngineUnavailable, UsageError

# Each command imports what it needs when it runs: `capvec doctor` must work where half of it is missing.


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 when it did what it should, 1 when the doctor found something missing, 2 on an error."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(given, argparse.Namespace(command_line=["capvec", *given]))
    try:
        return int(options.run(options))
    except CapvecError as error:
        print(f"capvec: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="capvec",
        description="Behavioural evaluation of steering vectors. A sweep is a pytest run: pytest -m sweep --alpha 4",
    )
    parser.add_argument("--version", action="version", version=f"capvec {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    doctor = commands.add_parser("doctor", help="say what is there and what is missing, each with its remedy")
    doctor.set_defaults(run=_doctor)

    setup = commands.add_parser("setup", help="make ready what a sweep needs: container engine, base image, model")
    setup.set_defaults(run=_setup)

    serve = commands.add_parser("serve", help="run the engine until Ctrl-C, for --base-url")
    serve.add_argument(
        "--model", default="pocket", help="`pocket`, `pocket-base`, a Hugging Face id, or a folder (default: pocket)"
    )
    serve.add_argument("--port", type=int, default=0, help="default: a free one")
    serve.add_argument(
        "--log", type=Path, default=Path("engine.log"), help="takes what it prints (default: engine.log)"
    )
    serve.set_defaults(run=_serve)

    collect = commands.add_parser("collect", help="run the baseline and keep its traces, for --traces")
    collect.add_argument("--out", type=Path, required=True, help="a new folder")
    for option, default, meaning in (
        ("--tasks", "multi", "a set, or a folder of Harbor tasks"),
        ("--attempts", "1", "of each task"),
        ("--model", "pocket", "`pocket`, `pocket-base`, a Hugging Face id, or a folder"),
        ("--seed", "0", "base seed"),
        ("--max-steps", "20", "replies per trial; `same-model` negatives need at least 15"),
        ("--max-tokens", "96", "tokens per reply"),
        ("--temperature", "0.7", "of sampling"),
        ("--protocol", "bash-block", "how replies carry commands"),
    ):
        collect.add_argument(option, default=default, help=f"{meaning} (default: {default})")
    collect.add_argument("--jobs", type=int, default=4, help="trials at a time (default: 4)")
    collect.set_defaults(run=_collect)

    bake = commands.add_parser("bake", help="write a model folder that does without a hook what a steer does with one")
    bake.add_argument("--model", default="pocket", help="`pocket`, `pocket-base`, a Hugging Face id, or a folder")
    bake.add_argument("--direction", required=True, help="a direction, as a sweep writes it or another tool does")
    bake.add_argument("--layer", required=True, help="block, counted from 0; several as in 22+26")
    bake.add_argument("--op", default="add", help="`add`, or `ablate`: at every write into the residual (default: add)")
    bake.add_argument("--alpha", help="strength of what is added")
    bake.add_argument("--alpha-unit", default="stored", help="`stored`, `norm` or `ambient` (default: stored)")
    bake.add_argument("--out", required=True, help="a new folder")
    bake.set_defaults(run=_bake)
    return parser


def _doctor(_options: argparse.Namespace) -> int:
    from capvec.setup.doctor import examine, report  # noqa: PLC0415

    findings = examine()
    print(report(findings))
    return 0 if all(finding.ok for finding in findings) else 1


def _setup(_options: argparse.Namespace) -> int:
    from capvec.setup.steps import set_up  # noqa: PLC0415

    set_up(lambda line: print(f"capvec: {line}", flush=True))
    return 0


def _serve(options: argparse.Namespace) -> int:
    import psutil  # noqa: PLC0415

    from capvec.engine.process import start_engine  # noqa: PLC0415
    from capvec.engine.protocol import TOKEN_VARIABLE  # noqa: PLC0415
    from capvec.pocket import resolve_model  # noqa: PLC0415

    source = resolve_model(options.model)
    with start_engine(
        source.path_or_id,
        label=source.name,
        context_length=source.context_length,
        log_path=options.log,
        port=options.port,
    ) as engine:
        print(
            f"serving {source.name}; use it with\n  {TOKEN_VARIABLE}={engine.token} pytest … --base-url {engine.url}",
            flush=True,
        )
        # Ends by Ctrl-C, or with the engine. An engine that died is a zombie until its parent, which is us, asks.
        while psutil.Process(engine.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(1)
    raise EngineUnavailable(f"the engine ended by itself; {options.log} says why")


def _collect(options: argparse.Namespace) -> int:
    from capvec.sweep.collect import collect  # noqa: PLC0415
    from capvec.sweep.options import parse_options  # noqa: PLC0415

    if options.jobs < 1:
        raise UsageError(f"--jobs {options.jobs}: expected a whole number of at least 1")
    raw = {name: value for name, value in vars(options).items() if name not in {"run", "out", "jobs"}}
    raw |= {"alpha": "1"}
    outcomes = collect(parse_options(raw), out=options.out, jobs=options.jobs, say=lambda line: print(line, flush=True))
    solved = sum(outcome.outcome == "solved" for outcome in outcomes)
    errors = sum(outcome.outcome == "error" for outcome in outcomes)
    print(f"{len(outcomes)} traces in {options.out / 'trajectories'}: {solved} solved, {errors} errors")
    return 1 if errors else 0


def _bake(options: argparse.Namespace) -> int:
    from capvec.bake.order import parse_order  # noqa: PLC0415

    order = parse_order(vars(options))
    from capvec.bake.command import bake, report  # noqa: PLC0415 (torch: only once the order makes sense)

    print(report(bake(order, lambda line: print(f"capvec: {line}", flush=True)), order.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
