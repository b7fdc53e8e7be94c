"""Parses `task.toml` of a Harbor task, schema 1.0 to 1.4: text in, checked settings out.

Field names, defaults and meaning are Harbor's (`harbor.models.task.config`, version 0.26). The older spellings
`version`, `memory = "4G"`, `storage = "10G"` and `allow_internet` are read as well. Two rules are capvec's own:

* A key that asks for something that capvec lacks (GPUs, MCP servers, Windows, host allowlists) is refused. Other keys
  without effect are ignored and listed in `Settings.notes`, which are printed at startup.
* `[metadata.capvec]` is capvec's own table, in a place that Harbor keeps and does not interpret. `cap_add = ["CHOWN"]`
  adds Linux capabilities, and `cap_reason` must say why; `pids = 256` limits the number of processes.
"""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import PurePosixPath
from typing import Any, Literal

from capvec.parsing import parse_toml
from capvec.task_records import Artifact, Collect, Environment, Healthcheck, Limits, Phase
from capvec.tasks.table import LARGEST_WHOLE, Table

MIN_CPUS = 0.01
_TEMPLATE = re.compile(r"\$\{([^}:]+)(?::-(.*))?\}")
_NETWORK = {"public": True, "no-network": False}
_STEP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

Mode = Literal["shared", "separate"]
Host = Mapping[str, str]
"""Variables of this machine, to which `${VAR}` in an `env` table refers."""


@dataclass(frozen=True)
class VerifierSettings:
    """One `[verifier]` table; None where a key is not set."""

    timeout_s: float | None
    env: Mapping[str, str]
    user: str | None
    network: bool | None
    mode: Mode | None
    environment: Environment | None
    collect: tuple[Collect, ...]


@dataclass(frozen=True)
class StepSettings:
    """One `[[steps]]` table."""

    name: str
    agent: Phase
    verifier: VerifierSettings
    artifacts: tuple[Artifact, ...]
    healthcheck: Healthcheck | None
    min_reward: Mapping[str, float]


@dataclass(frozen=True)
class Settings:
    """The content of `task.toml` in capvec's units: seconds, MB, environments with every template resolved."""

    environment: Environment
    agent: Phase
    verifier: VerifierSettings
    artifacts: tuple[Artifact, ...]
    skills_dir: str | None
    solution_env: Mapping[str, str]
    steps: tuple[StepSettings, ...]
    step_reward: Literal["mean", "final"]
    metadata: Mapping[str, Any]
    notes: tuple[str, ...] = field(default=())
    """Keys without effect in capvec."""


def parse_settings(text: str, *, file: str, host_env: Host | None = None) -> Settings:
    """Read a `task.toml`.

    Args:
        text: the file's content.
        file: the file's name in messages.
        host_env: variables that `${VAR}` in an `env` table refers to; by default those of this process.

    Raises:
        UsageError: a key is wrong or asks for what capvec lacks; the message names file, key, value and expectation.
            Or the text is not TOML; the message names file, line and column.
    """
    root = Table(parse_toml(text, file), file=file)
    host = os.environ if host_env is None else host_env
    _schema_version(root)
    own = root.table("metadata").table("capvec")
    environment = _environment(root.table("environment"), host, own)
    agent = _phase(root.table("agent"), Phase())
    settings = Settings(
        environment=environment,
        agent=agent,
        verifier=_verifier(root.table("verifier"), host),
        artifacts=_artifacts(root),
        skills_dir=root.table("environment").text("skills_dir"),
        solution_env=_env(root.table("solution"), host),
        steps=_steps(root, agent, host),
        step_reward=_step_reward(root),
        metadata=_plain(root.table("metadata").take_all()),
    )
    for ours in ("task", "source"):
        root.ignore(ours)
    own.forbid_unknown()
    return replace(settings, notes=tuple(f"{key} has no effect in capvec" for key in root.unread()))


def _schema_version(root: Table) -> None:
    """Accept every 1.x. `version` is the spelling before 1.1; `schema_version` takes precedence, as in Harbor."""
    older = root.text("version")
    version = root.text("schema_version") or older
    if version is not None and not re.fullmatch(r"1(\.\d+)*", version):
        key = "schema_version" if root.text("schema_version") else "version"
        root.reject(key, 'a Harbor task schema that capvec reads: "1.0" to "1.4"')


# ------------------------------------------------------------------------------------------------ containers


def _environment(table: Table, host: Host, own: Table) -> Environment:
    """`[environment]`, or `[verifier.environment]` with the same keys."""
    _refuse_unsupported(table)
    return Environment(
        image=table.text("docker_image"),
        build_timeout_s=table.positive("build_timeout_sec", Environment().build_timeout_s),
        limits=_limits(table, own),
        env=_env(table, host),
        workdir=_absolute(table, "workdir"),
        healthcheck=_healthcheck(table),
    )


def _refuse_unsupported(environment: Table) -> None:
    """Refuse what would change the task if it were ignored."""
    operating_system = environment.text("os")
    if operating_system is not None and operating_system.lower() != "linux":
        environment.reject("os", '"linux": capvec runs Linux containers only')
    if environment.whole("gpus", 0, minimum=0):
        environment.reject("gpus", "0: sandboxes have no GPU")
    for key, reason in (
        ("mcp_servers", "MCP servers are not supported"),
        ("tpu", "sandboxes have no TPU"),
        ("gpu_types", "sandboxes have no GPU"),
    ):
        _refuse(environment, key, reason)
    _refuse_hosts(environment)


def _refuse(table: Table, key: str, reason: str) -> None:
    if table.take(key) not in (None, "", [], {}):
        table.reject(key, f"nothing here: {reason}")


def _refuse_hosts(table: Table) -> None:
    _refuse(table, "allowed_hosts", 'host allowlists are not supported; use "public" or "no-network"')


def _limits(environment: Table, own: Table) -> Limits:
    default = Limits()
    cap_add = tuple(name.upper().removeprefix("CAP_") for name in own.strings("cap_add"))
    reason = own.text("cap_reason")
    if cap_add and not (reason or "").strip():
        own.reject("cap_reason", "a sentence that says why the task needs the capabilities in cap_add")
    if "ALL" in cap_add:
        own.reject("cap_add", "the names of the capabilities that the task needs: ALL would undo the sandbox")
    memory_mb = _size_mb(environment, "memory_mb", "memory")
    storage_mb = _size_mb(environment, "storage_mb", "storage")
    cpus = environment.positive("cpus", default.cpus)
    if cpus < MIN_CPUS:
        environment.reject("cpus", f"at least {MIN_CPUS}, the least that Docker accepts")
    older, newer = environment.flag("allow_internet"), _network(environment)
    return Limits(
        cpus=cpus,
        memory_mb=default.memory_mb if memory_mb is None else memory_mb,
        storage_mb=default.storage_mb if storage_mb is None else storage_mb,
        pids=own.whole("pids", default.pids, minimum=1),
        network=newer if newer is not None else older is not False,  # public by default, as in Harbor
        cap_add=cap_add,
    )


def _network(table: Table) -> bool | None:
    mode = table.text("network_mode")
    if mode is not None and mode not in _NETWORK:
        table.reject("network_mode", '"public" or "no-network"')
    return None if mode is None else _NETWORK[mode]


def _size_mb(table: Table, key: str, older: str) -> int | None:
    """The value of `memory_mb = 4096`, or of the older `memory = "4G"`, where 1G is 1024 MB as in Harbor."""
    size = table.whole(key, None, minimum=1)
    text = table.text(older)
    if text is None:
        return size
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]+)?)([GMK])", text.strip().upper())
    megabytes = int(float(match[1]) * {"G": 1024, "M": 1, "K": 1 / 1024}[match[2]]) if match else 0
    if not 1 <= megabytes <= LARGEST_WHOLE:
        table.reject(older, 'a size of at least 1 MB such as "4G" or "512M"')
    if size is not None and size != megabytes:
        table.reject(older, f"{size} MB as {key} says, or only one of the two keys")
    return megabytes


def _absolute(table: Table, key: str) -> str | None:
    path = table.text(key)
    if path is not None and not path.startswith("/"):
        table.reject(key, "an absolute path in the container")
    return path


def _healthcheck(parent: Table) -> Healthcheck | None:
    if parent.take("healthcheck") is None:
        return None
    table, default = parent.table("healthcheck"), Healthcheck("")
    command = table.text("command")
    if command is None:
        table.reject("command", "a shell command that exits with 0 once the container is ready")
    return Healthcheck(
        command=command,
        interval_s=table.positive("interval_sec", default.interval_s),
        timeout_s=table.positive("timeout_sec", default.timeout_s),
        start_period_s=table.number("start_period_sec", default.start_period_s, minimum=0.0),
        start_interval_s=table.positive("start_interval_sec", default.start_interval_s),
        retries=table.whole("retries", default.retries, minimum=1),
    )


def _env(table: Table, host: Host) -> dict[str, str]:
    """An `env` table. As in Harbor, a value that is exactly `${VAR}` or `${VAR:-default}` is taken from the host."""
    env = table.table("env")
    resolved = {}
    for key, value in env.take_all().items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key):
            env.reject(key, "a name of letters, digits and underscores that does not start with a digit")
        if not isinstance(value, str):
            env.reject(key, "a string")
        template = _TEMPLATE.fullmatch(value)
        found = host.get(template[1], template[2]) if template else value
        if found is None:
            env.reject(key, f"the variable {template[1] if template else key} set on this machine: export it first")
        resolved[key] = found
    return resolved


# ------------------------------------------------------------------------------------------------ phases


def _phase(table: Table, default: Phase) -> Phase:
    """An `[agent]` table; what it leaves out is as in `default`."""
    _refuse_hosts(table)
    network = _network(table)
    return Phase(
        timeout_s=table.positive("timeout_sec", default.timeout_s),
        user=_user(table) or default.user,
        network=default.network if network is None else network,
    )


def _user(table: Table) -> str | None:
    """A name or a number."""
    user = table.take("user")
    if user is None:
        return None
    number = isinstance(user, int) and not isinstance(user, bool) and 0 <= user < LARGEST_WHOLE
    if not number and not (isinstance(user, str) and user.strip()):
        table.reject("user", "the name or the number of a user of the image")
    return str(user)


def _verifier(table: Table, host: Host) -> VerifierSettings:
    _refuse_hosts(table)
    mode = table.text("environment_mode")
    if mode not in (None, "shared", "separate"):
        table.reject("environment_mode", '"shared" or "separate"')
    environment = None
    if table.take("environment") is not None:
        if mode == "shared":
            table.reject("environment_mode", '"separate", since there is a verifier.environment')
        own = table.table("environment")
        environment = _environment(own, host, Table({}, file=""))
    collect = table.tables("collect")
    return VerifierSettings(
        timeout_s=table.positive("timeout_sec", 0.0) if table.take("timeout_sec") is not None else None,
        env=_env(table, host),
        user=_user(table),
        network=_network(table),
        mode=mode,  # type: ignore[arg-type]
        environment=environment,
        collect=tuple(_collect(one) for one in collect),
    )


def _collect(table: Table) -> Collect:
    command = table.text("command")
    if command is None:
        table.reject("command", "a shell command")
    return Collect(command, table.text("service") or "main", table.positive("timeout_sec", 60.0), _user(table))


def _artifacts(parent: Table) -> tuple[Artifact, ...]:
    """`artifacts`: paths of the agent's container, or tables with more."""
    artifacts = []
    for table in parent.tables("artifacts", text_key="source"):
        source = table.text("source")
        if source is None or ".." in PurePosixPath(source).parts:
            table.reject("source", "a path in the container without ..")
        if not PurePosixPath("/", source).name:
            table.reject("source", "a path below /, since the whole of a container cannot be copied into another")
        service = table.text("service") or "main"
        if service != "main" and not source.startswith("/"):
            table.reject("source", f"an absolute path in the container of the service {service}")
        # In the agent's container a path that is not absolute begins at the root, as for `docker cp`.
        source = source if source.startswith("/") else f"/{source}"
        artifacts.append(Artifact(source, table.strings("exclude"), service, table.text("destination") or ""))
    return tuple(artifacts)


def _steps(root: Table, agent: Phase, host: Host) -> tuple[StepSettings, ...]:
    steps: list[StepSettings] = []
    for table in root.tables("steps"):
        name = table.text("name")
        if name is None or not _STEP_NAME.fullmatch(name):
            table.reject("name", "the name of a folder under steps/: letters, digits, '.', '_' and '-'")
        if any(step.name.lower() == name.lower() for step in steps):
            table.reject("name", "a name that no other step has")
        steps.append(
            StepSettings(
                name=name,
                agent=_phase(table.table("agent"), agent),
                verifier=_verifier(table.table("verifier"), host),
                artifacts=_artifacts(table),
                healthcheck=_healthcheck(table),
                min_reward=_min_reward(table),
            )
        )
    return tuple(steps)


def _min_reward(table: Table) -> dict[str, float]:
    value = table.take("min_reward")
    if value is None:
        return {}
    given = value if isinstance(value, dict) else {"reward": value}
    if not all(isinstance(one, int | float) and not isinstance(one, bool) and isfinite(one) for one in given.values()):
        table.reject("min_reward", "a finite number, or a table of rewards and such numbers")
    return {key: float(one) for key, one in given.items()}


def _step_reward(root: Table) -> Literal["mean", "final"]:
    strategy = root.text("multi_step_reward_strategy") or "mean"
    if strategy == "final":
        return "final"
    if strategy != "mean":
        root.reject("multi_step_reward_strategy", '"mean" or "final"')
    return "mean"


def _plain(value: Any) -> Any:
    """A value with TOML's dates and times as ISO 8601 text, since metadata is written as JSON."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else value
