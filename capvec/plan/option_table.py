"""Every option of capvec, defined once: name, default, parser, help text, and the commands that have it.

`pytest --help`, `capvec COMMAND --help`, `python -m capvec.studies.calibration.select --help`, `SweepOptions`,
`provenance.json` and docs/reference/options.md are made from `OPTIONS`. Defaults of a recipe and of a model are those
of `Recipe`, `GenerationDefaults` and `capvec.models`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import get_args

from capvec.agent.protocols import PROTOCOLS
from capvec.arguments import at_least, choice, number
from capvec.directions.recipe import CONTRASTS, RECIPE_PARSERS, EstimatorName, Recipe
from capvec.engines.generation import REPETITION_PENALTIES
from capvec.engines.protocol import LOOPBACK, GenerationDefaults
from capvec.engines.selection import AskedEngine
from capvec.harnesses import parse_columns
from capvec.models import POCKET
from capvec.models.source import AGENT, BASE, POCKET_BASE
from capvec.plan.option import Default, Option, Place
from capvec.plan.option_parsers import (
    parse_above_zero,
    parse_alphas,
    parse_base_rate,
    parse_controls,
    parse_docker_host,
    parse_engine_arg,
    parse_grid_layers,
    parse_layers,
    parse_reward_name,
    parse_run_name,
    parse_shard,
    parse_share,
    parse_temperature,
)
from capvec.records import AlphaUnit, Thinking
from capvec.stats.assumed import EQUIVALENCE_MARGIN, UNKNOWN_RATE, UNKNOWN_SPREAD
from capvec.steering import Op, Positions
from capvec.task_records import Capabilities

PLACES: Mapping[str, Place] = {
    "sweep": Place(
        "pytest -m sweep",
        "Run every task with and without the steering vector, and report the effect.",
        "a sweep takes --layer and --alpha",
    ),
    "calibration": Place(
        "pytest -m calibration",
        "Run known effects: does capvec find those that exist, and no others?",
        "a calibration takes its directions, layers and strengths from the file that --selection names, and its rules "
        "are fixed",
    ),
    "select": Place(
        "python -m capvec.studies.calibration.select",
        "Select layers and strengths for a calibration on the dev split of the trained task families.",
    ),
    "doctor": Place("capvec doctor", "Check what a sweep needs, and say how to get what is missing."),
    "setup": Place("capvec setup", "Prepare what a sweep needs: Docker, the base image and the bundled model."),
    "serve": Place("capvec serve", "Serve a model, with a name for each steer, to any client until Ctrl-C."),
    "check": Place("capvec check", "Prove tasks: their own solutions are judged solved, and doing nothing is not."),
    "preregister": Place("capvec preregister", "Write down a claim, and how a sweep tests it, before it runs."),
    "collect": Place("capvec collect", "Run the baseline and keep its traces, for --traces."),
    "capture": Place("capvec capture", "Save the residuals of traces to a file, for `capvec compute`."),
    "compute": Place("capvec compute", "Build a direction from traces, and test and rank it at every layer."),
    "report": Place("capvec report", "Write the reports of a run again, or merge several runs."),
    "judge": Place("capvec judge", "Give a verdict on results that were made elsewhere."),
    "export": Place("capvec export", "Copy a finished sweep to a folder for publication, with a model card."),
    "bake": Place("capvec bake", "Write a model folder that is steered without a hook."),
}
"""Name → the command, in the order of `capvec --help` and of the documentation."""

GROUPS: Mapping[str, str] = {
    "steering": "steering",
    "recipe": "building the direction",
    "trials": "model and trials",
    "power": "power and early stopping",
    "run": "the run and its report",
    "elsewhere": "results made elsewhere",
    "server": "the server",
    "files": "files",
}
"""Heading of the options in help texts and documentation, by the name that `Option.group` has for it."""


_SWEEP, _STUDIES = ("sweep",), ("sweep", "calibration")
_STEERING = ("sweep", "serve")
_ACTING = ("sweep", "calibration", "select", "collect")
_CAPTURING = ("capture", "compute")
_RECIPE = Recipe()


def _recipe(name: str, metavar: str, text: str, *, capture: bool = False, default: str = "") -> Option:
    """An option of `Recipe`, which has its default."""
    value = getattr(_RECIPE, name)
    typed = f"{value:g}" if isinstance(value, float) else str(value)
    places = (*_STEERING, *_CAPTURING) if capture else (*_STEERING, "compute")
    return Option(
        *(name, metavar, "recipe", places, text, RECIPE_PARSERS[name]),
        Default(typed) if isinstance(value, str | int | float) else Default(words=default),
    )


def _either(names: Iterable[str]) -> str:
    """`a, b or c`."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def _of_models(name: str) -> Default:
    """A default that depends on the model."""
    usual = getattr(GenerationDefaults(), name)
    return Default(words=f"{AGENT[name]} for {POCKET}, {BASE[name]} for {POCKET_BASE}, otherwise {usual}")


_NOT_REGISTERED = frozenset(
    (
        *("reference", "base_url", "engine_arg", "skip_unfit", "no_check", "docker_host", "retries"),
        *("max_outage", "base_rate", "spread", "run", "resume", "shard", "plan", "preregistration"),
        *("write_preregistration", "hypothesis", "battery", "battery_limit"),
    )
)
"""Options of a sweep that `capvec preregister` lacks: no claim depends on them, or it has its own."""


def _registered(option: Option) -> Option:
    """The option, which `capvec preregister` has too where it is of a sweep and of a claim."""
    if "sweep" not in option.places or option.name in _NOT_REGISTERED:
        return option
    return replace(option, places=(*option.places, "preregister"))


_TABLE: tuple[Option, ...] = (
    # -------------------------------------------------------------------------------------------------- steering
    Option("alpha", "A[,A…]", "steering", _STEERING, "Steering strengths, each a config of its own.", parse_alphas,
        Default("4"), record="alphas"),
    Option("alpha_unit", "UNIT", "steering", _STEERING,
        "What alpha multiplies: `stored`, the vector with its natural length; `norm`, the unit vector; `ambient`, "
        "the mean norm of the residual, so that alpha is the dose.",
        partial(choice, "--alpha-unit", choices=get_args(AlphaUnit)), Default("stored")),
    Option("layer", "L[,L…]", "steering", _STEERING,
        "Decoder blocks, counted from 0, each a config of its own. `20+22` steers both in one config. `auto` takes "
        "the best layer of the ranking, or the layer that the direction's file names.", parse_layers, Default("auto"),
        record="layers"),
    Option("op", "OP", "steering", _STEERING,
        "`add` adds alpha times the vector. `ablate` removes the component along it and takes no alpha. `set` makes "
        "that component alpha times the vector's length.", partial(choice, "--op", choices=get_args(Op)),
        Default("add")),
    Option("positions", "P", "steering", _STEERING,
        "Which tokens are steered: `all`, those of the `prompt`, the `generated` ones, or those of the `assistant`.",
        partial(choice, "--positions", choices=get_args(Positions)), Default("all")),
    Option("keep_norm", None, "steering", _STEERING, "Rescale the steered residual to the norm that it had."),
    Option("direction", "PATH", "steering", _STEERING, "A `.pt`, `.safetensors` or `.gguf` file with the direction.",
        default=Default(words="built from --traces")),
    Option("alpha", "A[,A…]", "steering", ("select",), "Strengths of the skill direction to try, in stored units.",
        parse_alphas, Default("0.5,1,1.5")),
    # What the reply will be is decided in the late ones of the bundled model's 30 layers.
    Option("layer", "L[,L…]", "steering", ("select",), "Layers of the skill direction to try.",
        partial(parse_grid_layers, option="--layer"), Default("20,22,24,26,28")),
    Option("format_alpha", "A[,A…]", "steering", ("select",), "Strengths of the format direction to try.",
        partial(parse_alphas, option="--format-alpha"), Default(words="those of --alpha")),
    Option("format_layer", "L[,L…]", "steering", ("select",), "Layers of the format direction to try.",
        partial(parse_grid_layers, option="--format-layer"), Default(words="those of --layer")),
    Option("direction", "PATH", "steering", ("bake",), "A `.pt`, `.safetensors` or `.gguf` file with the direction.",
        required=True),
    Option("layer", "L[+L…]", "steering", ("bake",), "Decoder blocks, counted from 0, as in `22` or `22+26`.",
        required=True),
    Option("op", "OP", "steering", ("bake",),
        "`add` adds alpha times the vector after the block. `ablate` removes the direction at every write into the "
        "residual. `set` cannot be baked: bake `ablate`, then `add`.", default=Default("add")),
    Option("alpha", "A", "steering", ("bake",), "Strength; required for `add`, refused for `ablate`."),
    Option("alpha_unit", "UNIT", "steering", ("bake",), "What alpha multiplies: `stored`, `norm` or `ambient`.",
        default=Default("stored")),
    # ------------------------------------------------------------------------------------ building the direction
    Option("traces", "PATH", "recipe", (*_STEERING, *_CAPTURING),
        "A folder or a file of traces to build the direction from, in the formats of docs/guides/traces.md.",
        default=Default(words="those bundled for --contrast")),
    Option("activations", "FILE", "recipe", ("compute",),
        "A file that `capvec capture` wrote, in place of --traces and --model."),
    _recipe("contrast", "NAME",
        f"Which traces are compared: {_either(f'`{name}` ({what})' for name, what in CONTRASTS.items())}.",
        capture=True),
    _recipe("positive_reward", "R", "Least reward of a trace that passed."),
    _recipe("negative_min_steps", "N", "Least number of steps of a failure; not for length-matched."),
    _recipe("negative_max_parse_fail", "N", "Most replies of a failure that did not parse; not for cross-model."),
    _recipe("length_caliper", "S",
        "For length-matched: the steps of a pass and its failure differ by at most this share of the longer run, or "
        "by one step."),
    _recipe("confound_auc", "A",
        "Flag a confound (task, model, steps or length) that alone separates the classes with at least this AUC."),
    _recipe("confound_p", "P", "And with a p-value below this under permuted labels; an AUC of 1 is flagged at any p."),
    _recipe("pooling", "NAME",
        "Where the residual of a trace is taken: `last` token, `last-assistant` token, mean over the assistant's "
        "tokens (`mean-assistant`) or over the last K (`mean-last:K`).", capture=True),
    _recipe("estimator", "NAME", f"{_either(f'`{name}`' for name in get_args(EstimatorName))}."),
    _recipe("permutations", "N", "Label permutations for the null of the ranking.",
        default="10,000"),
    _recipe("trace_fields", "FIELD=NAME[,…]",
        "Names in the trace files for reward, task, model, messages, parse_fail, no_cmd and other fields.",
        capture=True),
    Option("reference", "PATH", "recipe", ("sweep", "compute"),
        "A direction's file to compare with: the ranking has the cosine with it at every layer."),
    Option("seed", "N", "recipe", ("compute",), "Seed of the label permutations.",
        partial(at_least, "--seed", minimum=0), Default("0")),
    Option("seed", "N", "recipe", ("serve",), "Seed of the label permutations and of random controls, as a sweep's.",
        partial(at_least, "--seed", minimum=0), Default("0")),
    # ------------------------------------------------------------------------------------------ model and trials
    Option("model", "NAME", "trials", (*_ACTING, "serve", *_CAPTURING, "bake"),
        "`pocket`, `pocket-base`, a Hugging Face id, or a model folder.", default=Default(POCKET)),
    Option("base_url", "URL", "trials", (*_STUDIES, "select", *_CAPTURING),
        "Use a running engine, with its token in CAPVEC_ENGINE_TOKEN, in place of --model; see `capvec serve`."),
    Option("engine", "KIND", "trials", (*_ACTING, "serve", *_CAPTURING),
        "What runs the model: `transformers`, any architecture on any machine; `vllm`, on GPUs; or `auto`, vLLM where "
        "it is installed, a CUDA device is there and its receipts of the architecture are tested, else transformers.",
        partial(choice, "--engine", choices=get_args(AskedEngine)), Default("auto")),
    Option("engine_arg", "KEY=VALUE", "trials", (*_ACTING, "serve", *_CAPTURING),
        "An argument of vLLM's engine, as in `tensor_parallel_size=2`; may be repeated. The value is JSON, or else a "
        "text.",
        parse_engine_arg, record="engine_args", several=True),
    Option("tasks", "NAME|PATH", "trials", _ACTING,
        "`sprint` (5 tasks), `multi` (6), `full` (98), or a folder of Harbor tasks.", default=Default("multi"),
        differs={"calibration": Default(words="those of the selection"), "select": Default("full")}),
    Option("TASKS", "TASKS", "trials", ("check",),
        "As --tasks of a sweep: `sprint`, `multi`, `full`, or a folder of Harbor tasks.", required=True),
    Option("skip_unsupported", None, "trials", ("sweep", "collect", "check"),
        "Leave out tasks that cannot run here, with the reasons in the report, instead of stopping."),
    Option("allow_network", None, "trials", ("sweep", "collect", "check"),
        "Let tasks that ask for a public network have it. The model's commands then reach it too."),
    Option("skip_unfit", None, "trials", ("sweep", "collect"),
        "Leave out tasks that `capvec check` finds unfit, with the reasons in the report, instead of stopping."),
    Option("no_check", None, "trials", _ACTING,
        "Run tasks without a proof that their verifiers tell a right answer from a wrong one."),
    Option("docker_host", "HOST", "trials", (*_ACTING, "check"),
        "A Docker that runs containers: an address (`ssh://`, `tcp://`, `unix://`), or a context of Docker's command "
        "line. May be repeated: each then gets a share of the trials, by its CPUs.", parse_docker_host,
        Default(words="that of the environment"), record="docker_hosts", several=True),
    Option("docker_host", "HOST", "trials", ("doctor", "setup"),
        "A Docker that is to run containers, as of a sweep; may be repeated.", parse_docker_host,
        Default(words="that of the environment"), several=True),
    Option("capabilities", "C", "trials", ("sweep", "collect", "check"),
        "Linux capabilities of containers: `none`, or `default`, those of a plain Docker container, which `apt-get`, "
        "`chown` and `su` need. The model's commands then have them too.",
        partial(choice, "--capabilities", choices=get_args(Capabilities)), Default("none")),
    Option("keep_processes", None, "trials", ("sweep", "collect", "check"),
        "Let processes that an agent leaves running, such as a server, live on beside the verifier. They can then "
        "change what it reads and writes."),
    Option("force_build", None, "trials", ("sweep", "collect", "check"),
        "Build a task's Dockerfile where it has one, although its `docker_image` names a ready image."),
    Option("attempts", "N", "trials", _ACTING, "Attempts of each (task, config).",
        partial(at_least, "--attempts", minimum=1), Default("1"), differs={"calibration": Default("2")}),
    Option("controls", "LIST", "trials", (*_STUDIES, "serve"),
        "Control configs: `zero`, `random:K`, `shuffled:K`, `orthogonal:K`, `negated`, `prompt`, `constrained`. "
        "A calibration takes `random:K` only, and `capvec serve` has no `constrained`.",
        parse_controls, Default("", "none"), differs={"calibration": Default("random:3")}),
    Option("battery", "NAME|PATH", "trials", _SWEEP,
        "Ask questions beside the tasks under every config, after the trials, for the off-task cost: `general`, or a "
        "JSONL file, or a folder of such files.", default=Default(words="none")),
    Option("battery_limit", "N", "trials", _SWEEP, "Most questions of the battery, spread over all of it.",
        partial(at_least, "--battery-limit", minimum=1), Default(words="all")),
    Option("seed", "N", "trials", _ACTING, "Base seed; all configs of a (task, attempt) share a seed.",
        partial(at_least, "--seed", minimum=0), Default("0")),
    Option("max_steps", "N", "trials", _ACTING, "Most replies per trial.", partial(at_least, "--max-steps", minimum=1),
        _of_models("max_steps")),
    Option("max_tokens", "N", "trials", _ACTING, "Most tokens per reply.", partial(at_least, "--max-tokens", minimum=1),
        _of_models("max_tokens")),
    Option("temperature", "T", "trials", _ACTING, "Sampling temperature: 0, or 0.01 to 100.",
        parse_temperature, Default("0.7")),
    Option("top_p", "P", "trials", _ACTING, "Draw from the fewest likeliest tokens that have probability P together.",
        partial(parse_above_zero, "--top-p", maximum=1.0), Default("1")),
    Option("top_k", "K", "trials", _ACTING, "Draw from the K likeliest tokens; 0 for all.",
        partial(at_least, "--top-k", minimum=0), Default("0")),
    Option("min_p", "P", "trials", _ACTING, "Draw from tokens with at least this share of the largest probability.",
        partial(number, "--min-p", minimum=0.0, maximum=1.0), Default("0")),
    Option("presence_penalty", "X", "trials", _ACTING, "Taken off the logit of a token that the reply has already.",
        partial(number, "--presence-penalty", minimum=-2.0, maximum=2.0), Default("0")),
    Option("frequency_penalty", "X", "trials", _ACTING,
        "Taken off the logit of a token for each time that the reply has it.",
        partial(number, "--frequency-penalty", minimum=-2.0, maximum=2.0), Default("0")),
    Option("repetition_penalty", "X", "trials", _ACTING,
        "Divides a positive logit of a token that is in the conversation or the reply, and multiplies a negative one.",
        partial(number, "--repetition-penalty", minimum=REPETITION_PENALTIES[0], maximum=REPETITION_PENALTIES[1]),
        Default("1")),
    Option("protocol", "NAME", "trials", _ACTING,
        f"How replies carry commands: {_either(f'`{name}`' for name in PROTOCOLS)}.",
        partial(choice, "--protocol", choices=tuple(PROTOCOLS)), Default("bash-block")),
    Option("thinking", "MODE", "trials", _ACTING,
        "Whether the model thinks before it answers: `on`, `off`, or `default` for the default of its chat template. "
        "`on` and `off` are refused where the template has no such switch. Thoughts count toward --max-tokens.",
        partial(choice, "--thinking", choices=get_args(Thinking)), Default(words="off, where there is a switch")),
    Option("reward", "NAME", "trials", ("sweep", "collect", "check", "judge"),
        "Which reward counts, where verifiers write several by name.", parse_reward_name,
        Default(words="`reward`, or the only one")),
    Option("solved_at", "R", "trials", ("sweep", "collect", "check"), "Least reward of a trial that is solved.",
        partial(number, "--solved-at"), Default("1")),
    Option("solved_at", "R", "trials", ("judge",),
        "Least reward of a trial that is solved. Required where rewards are not from 0 to 1.",
        partial(number, "--solved-at"), Default(words="1, for rewards from 0 to 1")),
    Option("retries", "N", "trials", _ACTING,
        "How often a trial that ended in an error is tried again. An unsolved trial never is, and tries that an outage "
        "of Docker or the engine took do not count.", partial(at_least, "--retries", minimum=0), Default("1")),
    Option("max_outage", "S", "trials", _ACTING,
        "Seconds to wait where Docker or the engine is out; then the run stops.",
        partial(number, "--max-outage", minimum=0.0), Default("120")),
    Option("jobs", "N", "trials", ("select", "collect"), "Trials at a time.", partial(at_least, "--jobs", minimum=1),
        Default("4")),
    Option("jobs", "N", "trials", ("check",), "Tasks at a time.", partial(at_least, "--jobs", minimum=1), Default("4")),
    # ---------------------------------------------------------------------------------- power and early stopping
    Option("effect", "D", "power", (*_SWEEP, "judge"),
        "A difference in pass rate that would matter: the verdict's equivalence margin.",
        partial(parse_share, "--effect", what="a difference in pass rate"), Default(words=f"{EQUIVALENCE_MARGIN:g}")),
    Option("base_rate", "R|RUN", "power", _SWEEP,
        "Assumed pass rate of the baseline, or the folder of an earlier run to estimate it and --spread from.",
        parse_base_rate, Default(words=f"{UNKNOWN_RATE:g}")),
    Option("spread", "S", "power", _SWEEP,
        "Assumed differences between tasks: standard deviation of the logit of the pass rate.",
        partial(number, "--spread", minimum=0.0), Default(words=f"{UNKNOWN_SPREAD:g}")),
    Option("sequential", None, "power", _SWEEP,
        "Stop a config early when its verdict is reached, or cannot be reached any more."),
    # ------------------------------------------------------------------------------------ the run and its report
    Option("run", "NAME", "run", (*_STUDIES, "select"), "Name of the run: its folder is reports/NAME.", parse_run_name,
        Default(words="a timestamp")),
    Option("resume", None, "run", (*_STUDIES, "select"), "Keep the valid trials of --run NAME and run the others."),
    Option("shard", "K/N", "run", _SWEEP,
        "Run the part K of N of the plan, as in `3/8`. Every (task, attempt) is in one shard, with all its configs. "
        "`capvec report` merges the shards, and judges verdict and gates.", parse_shard),
    Option("plan", None, "run", _STUDIES,
        "Print configs, number of trials, expected time and power after a short probe, and stop."),
    Option("gate", "EXPR", "run", (*_STUDIES, "judge"),
        "Exit with 1 unless EXPR holds. `improves(CONFIG)` is judged by the verdict. `no_harm(D)` and `M<=baseline`, "
        "with M one of parse_fail, no_cmd and steps, are judged by the observed values of every config, controls "
        "included: no pass rate more than D below the baseline's, no mean of M above the baseline's. Join conditions "
        "by commas."),
    Option("preregistration", "FILE", "run", _SWEEP,
        "A file that `capvec preregister` wrote. The report begins with every departure from it."),
    Option("write_preregistration", "FILE", "run", _SWEEP,
        "With --plan: a new file, to which what was planned is written as by `capvec preregister`, with the layers and "
        "the direction that were found."),
    Option("hypothesis", "TEXT", "run", _SWEEP, "With --write-preregistration: what the sweep is to show."),
    Option("hypothesis", "TEXT", "run", ("preregister",), "What the sweep is to show.", required=True),
    Option("selection", "PATH", "run", ("calibration",),
        "File with the layers and strengths that `python -m capvec.studies.calibration.select` selected.",
        default=Default(words="the bundled one"), earlier=("chosen",)),
    # ----------------------------------------------------------------------------------------------------- files
    Option("out", "FILE", "files", ("select",), "Where the selection is written.",
        default=Default(words="over the bundled one")),
    Option("out", "DIR", "files", ("collect",), "A new folder for the traces.", required=True),
    Option("out", "FILE", "files", ("capture",), "The file to write; its name ends in .safetensors.", required=True),
    Option("out", "DIR", "files", ("compute",), "Folder for dir.pt, dir.safetensors, dir.gguf and ranking.csv.",
        required=True),
    Option("RESULTS", "RESULTS", "elsewhere", ("judge",),
        "Files or folders with the outcomes of trials, as PATH or, to name their config, NAME=PATH; or counts of "
        "solved trials and of all, as NAME=S/N.", required=True, several=True),
    Option("baseline", "NAME", "elsewhere", ("judge",), "The config that the others are compared with.",
        default=Default(words="`baseline`")),
    Option("controls", "NAME[,NAME…]", "elsewhere", ("judge",),
        "Configs that are controls: they get a verdict, and the others are not corrected for them.",
        default=Default(words="those with the names of capvec's controls")),
    Option("columns", "FIELD=NAME[,…]", "elsewhere", ("judge",),
        "Names of a table's columns, where they are not those of the fields: `task`, `config`, `attempt`, `outcome`, "
        "`reward`, `steps`, `parse_fail`, `no_cmd`, `repaired`, `seed`, `error`, `family`, `split`.", parse_columns),
    Option("seeds", "S", "elsewhere", ("judge",),
        "Whether all configs of a (task, attempt) ran from one seed: `shared` or `separate`, where the results do not "
        "show it.", partial(choice, "--seeds", choices=("shared", "separate")), Default(words="not known")),
    Option("errors", "E", "elsewhere", ("judge",),
        "Whether failures of the instrument are told from those of the agent: `apart`, or `failures` where they count "
        "as these, where the results do not show it.", partial(choice, "--errors", choices=("apart", "failures")),
        Default(words="not known")),
    Option("receipts", "FILE", "elsewhere", ("judge",),
        "The file that `capvec serve --receipts FILE` wrote for the harness.", default=Default(words="none")),
    Option("preregistration", "FILE", "elsewhere", ("judge",),
        "A file that `capvec preregister` wrote. The report begins with every departure from it, and says what cannot "
        "be compared.", default=Default(words="none")),
    Option("FILE", "FILE", "files", ("preregister",), "A new file.", required=True),
    Option("RUN", "RUN", "files", ("report",), "Folders of runs, such as reports/latest.", required=True, several=True),
    Option("RUN", "RUN", "files", ("export",), "Folder of a run, such as reports/latest.", required=True),
    Option("out", "DIR", "files", ("report",), "A new folder for the merged run; required for several runs."),
    Option("out", "DIR", "files", ("judge",), "A new folder for the report, such as reports/NAME.",
        default=Default(words="no report, only the terminal")),
    Option("out", "DIR", "files", ("export", "bake"), "A new folder.", required=True),
    Option("license", "ID", "files", ("export",), "License of the vectors, as the Hugging Face hub names it.",
        default=Default("unknown")),
    Option("host", "ADDRESS", "server", ("serve",),
        "Address to listen on; one that other machines reach needs --allow-remote.", default=Default(LOOPBACK)),
    Option("allow_remote", None, "server", ("serve",),
        "Let --host be an address that other machines reach. Nothing is encrypted, the token included."),
    Option("port", "N", "server", ("serve",), "Port to listen on.", partial(at_least, "--port", minimum=0),
        Default("0", "a free one")),
    Option("token", "TOKEN", "server", ("serve",),
        "Token that clients must send. Other users see a command line; they do not see the variable "
        "CAPVEC_ENGINE_TOKEN.", default=Default(words="CAPVEC_ENGINE_TOKEN, or a new one")),
    Option("receipts", "FILE", "server", ("serve",),
        "File to which a line of JSON is appended for each reply: its id, model, steers, receipts and usage."),
    Option("log", "FILE", "files", ("serve",), "Where the engine's output goes.",
        default=Default(words="engine.log in capvec's cache folder")),
)  # fmt: skip
OPTIONS = tuple(map(_registered, _TABLE))
"""In the order of help texts and documentation."""
