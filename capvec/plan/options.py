"""What the user asked for, checked before anything slow starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from capvec.directions.recipe import RECIPE_PARSERS, Recipe
from capvec.engines.selection import AskedEngine
from capvec.errors import UsageError
from capvec.plan.option_help import options_of
from capvec.plan.option_parsers import Control, Shard
from capvec.plan.option_table import OPTIONS, PLACES
from capvec.records import AlphaUnit, Thinking
from capvec.serial import Record
from capvec.steering import Op, Positions
from capvec.task_records import Capabilities


def typed(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were typed: those that are neither None nor, of a switch, False."""
    return {name: value for name, value in raw.items() if value is not None and value is not False}


def read_options(place: str, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Check the options of a command and fill in its defaults.

    Args:
        place: a key of `PLACES`.
        raw: option (with `_` for `-`) → text as typed; None or absent where it was not.

    Returns:
        Every option of the command → its value; None where nothing was typed and there is no default.

    Raises:
        UsageError: an option that the command does not have, a bad value, or --model with --base-url.
    """
    given = typed(raw)
    values: dict[str, Any] = {}
    _refuse_others(place, given)
    for name in ("model", "engine", "engine_arg"):
        if name in given and "base_url" in given:
            typed_too = given[name] if isinstance(given[name], str) else given[name][0]
            raise UsageError(
                f"--{name.replace('_', '-')} {typed_too} and --base-url {given['base_url']}: the engine there has a "
                "model; drop one"
            )
    for option in options_of(place):
        text = given.get(option.name, option.default_in(place).text)
        if option.metavar is None:
            values[option.name] = option.name in given
        elif isinstance(text, list):
            values[option.name] = [option.parse(one) for one in text]
        else:
            values[option.name] = None if text is None else option.parse(text)
    return values


def _refuse_others(place: str, given: Mapping[str, Any]) -> None:
    """Refuse options of other studies, which pytest cannot tell apart."""
    own = {option.name for option in options_of(place)}
    for option in OPTIONS:
        if option.name in given and option.name not in own:
            others = " and ".join(PLACES[other].command.removeprefix("pytest ") for other in option.places)
            raise UsageError(f"{option.flag} is for {others}: {PLACES[place].note}; leave it out")


_DEFAULTS = read_options("sweep", {})


@dataclass(frozen=True)
class SweepOptions(Record):
    """The options of a study, parsed. Fields and defaults are those of the table of options."""

    alphas: tuple[float, ...] = _DEFAULTS["alpha"]
    alpha_unit: AlphaUnit = _DEFAULTS["alpha_unit"]
    layers: tuple[tuple[int, ...], ...] | None = _DEFAULTS["layer"]
    """Each entry is steered in a config of its own, at all of its layers; None stands for `auto`."""
    model: str = _DEFAULTS["model"]
    """Or the URL of the running engine."""
    direction: str | None = None
    traces: str | None = None
    recipe: Recipe = field(default_factory=Recipe)
    """How the direction is built from the traces."""
    reference: str | None = None
    """File of a direction to compare with, layer by layer."""
    op: Op = _DEFAULTS["op"]
    positions: Positions = _DEFAULTS["positions"]
    keep_norm: bool = False
    tasks: str = _DEFAULTS["tasks"]
    skip_unsupported: bool = False
    allow_network: bool = False
    no_check: bool = False
    skip_unfit: bool = False
    docker_hosts: tuple[str, ...] = ()
    """Addresses or contexts; none stands for the Docker of the environment."""
    capabilities: Capabilities = _DEFAULTS["capabilities"]
    keep_processes: bool = False
    force_build: bool = False
    attempts: int = _DEFAULTS["attempts"]
    controls: tuple[Control, ...] = _DEFAULTS["controls"]
    battery: str | None = None
    """The questions to ask beside the tasks: a name, a file or a folder."""
    battery_limit: int | None = None
    """None for all of them."""
    seed: int = _DEFAULTS["seed"]
    run: str | None = None
    resume: bool = False
    gate: str | None = None
    preregistration: str | None = None
    """A file that the run is compared with."""
    write_preregistration: str | None = None
    """With `--plan`: a file to write."""
    hypothesis: str | None = None
    """What the run is to show, for the file that is written."""
    shard: Shard | None = None
    """The part of the plan to run; None for all of it."""
    sequential: bool = False
    base_url: str | None = None
    engine: AskedEngine = _DEFAULTS["engine"]
    engine_args: Mapping[str, Any] = field(default_factory=dict)
    """vLLM's own."""
    max_steps: int | None = None
    """None stands for the model's default, as for the next field."""
    max_tokens: int | None = None
    temperature: float = _DEFAULTS["temperature"]
    top_p: float = _DEFAULTS["top_p"]
    """This and the next five are those of `Shaping`."""
    top_k: int = _DEFAULTS["top_k"]
    min_p: float = _DEFAULTS["min_p"]
    presence_penalty: float = _DEFAULTS["presence_penalty"]
    frequency_penalty: float = _DEFAULTS["frequency_penalty"]
    repetition_penalty: float = _DEFAULTS["repetition_penalty"]
    protocol: str = _DEFAULTS["protocol"]
    thinking: Thinking | None = None
    """None is off, where the chat template has a switch."""
    reward: str | None = None
    """The name of the verifier's reward that counts; None: `reward`, or the only one."""
    solved_at: float = _DEFAULTS["solved_at"]
    """The least reward of a trial that is solved."""
    retries: int = _DEFAULTS["retries"]
    """How often a trial that ended in an error is tried again."""
    max_outage: float = _DEFAULTS["max_outage"]
    """Seconds to wait for Docker or the engine."""
    effect: float | None = None
    """A difference in pass rate that would matter; None for the verdict's margin."""
    base_rate: float | str | None = None
    """Assumed pass rate of the baseline, or the folder of an earlier run."""
    spread: float | None = None
    """Assumed logit standard deviation between tasks."""
    selection: str | None = None
    """For a calibration: the file of the selected layers and strengths; None stands for the bundled one."""
    command_line: tuple[str, ...] = ()

    def recorded(self, place: str) -> dict[str, Any]:
        """The options that a command has, as `provenance.json` records them."""
        keys = {"recipe" if option.name in RECIPE_PARSERS else option.key for option in options_of(place)}
        return {key: value for key, value in self.to_json().items() if key in keys}


def _check_claim(raw: Mapping[str, Any]) -> None:
    """Refuse `--write-preregistration` where no whole plan is made, or nothing is claimed."""
    if not raw.get("plan"):
        raise UsageError("--write-preregistration needs --plan: a claim is written before a sweep, not by it")
    if raw.get("hypothesis") is None:
        raise UsageError('--write-preregistration needs --hypothesis "…": say what the sweep is to show')
    for name in ("shard", "preregistration"):
        if raw.get(name) is not None:
            raise UsageError(f"--write-preregistration with --{name}: the whole plan is written, anew; drop one")


def recipe_of(values: Mapping[str, Any]) -> Recipe:
    """The recipe among the options that `read_options` returned; what a command lacks has its default."""
    return Recipe(**{name: values[name] for name in RECIPE_PARSERS if values.get(name) is not None})


def engine_args_of(given: Sequence[tuple[str, Any]] | None) -> dict[str, Any]:
    """The values of --engine-arg by their names.

    Raises:
        UsageError: one is given twice.
    """
    named: dict[str, Any] = {}
    for key, value in given or ():
        if key in named:
            raise UsageError(f"--engine-arg {key}: it is given twice; expected once")
        named[key] = value
    return named


def parse_options(raw: Mapping[str, Any], place: str = "sweep") -> SweepOptions:
    """Check the options of a command that runs trials, and fill in its defaults.

    Args:
        raw: option (with `_` for `-`) → text as typed, None or absent where it was not; and `command_line`.
        place: a key of `PLACES`.

    Raises:
        UsageError: a bad option or a combination that makes no sense. The message names the option, what was received
            and what was expected.
    """
    values, known = read_options(place, raw), {field.name for field in fields(SweepOptions)}
    if raw.get("resume") and values["run"] is None:
        raise UsageError("--resume needs --run NAME: say which run under reports/ to resume")
    if values.get("direction") and values.get("traces"):
        raise UsageError("--direction and --traces were both given: a direction is either loaded or built; drop one")
    if values.get("direction") and values.get("reference"):
        raise UsageError(
            "--direction and --reference were both given: the ranking of a built direction shows the reference, and a "
            "loaded direction has no ranking; drop one"
        )
    if values.get("sequential") and values.get("shard"):
        raise UsageError(
            "--sequential and --shard were both given: interim analyses need the outcomes of every shard; drop one"
        )
    if values.get("write_preregistration") is not None:
        _check_claim(raw)
    if place == "sweep" and values["hypothesis"] is not None and values["write_preregistration"] is None:
        raise UsageError("--hypothesis needs --plan and --write-preregistration FILE: say where it is to be written")
    if values.get("battery") and values.get("shard"):
        raise UsageError("--battery and --shard were both given: run the battery without --shard, in a run of its own")
    if values.get("battery_limit") and not values.get("battery"):
        raise UsageError("--battery-limit needs --battery: say which questions to ask")
    if values.get("op") == "ablate" and any(control.kind == "negated" for control in values["controls"]):
        raise UsageError("--controls negated with --op ablate: an ablation has no sign to change; leave negated out")
    if values.get("base_url") is not None:
        values["model"] = values["base_url"]
    values["engine_arg"] = engine_args_of(values.get("engine_arg"))
    values["docker_host"] = tuple(values.get("docker_host") or ())
    named = {option.key: values[option.name] for option in options_of(place)}
    return SweepOptions(
        **{key: value for key, value in named.items() if key in known},
        recipe=recipe_of(values),
        command_line=tuple(raw.get("command_line", ())),
    )
