"""Parses `task.toml` of a Harbor task, schema 1.0 to 1.4: text in, checked settings out.

Field names and defaults are Harbor's (`harbor.models.task.config`; https://www.harborframework.com/docs/tasks). The
older spellings `version`, `memory = "4G"`, `storage = "10G"` and `allow_internet` are read as well. Three rules are
capvec's own:

* A key that asks for something that capvec lacks (steps, GPUs, MCP servers, other users, …) is refused. Other keys
  without effect are ignored and listed in `Settings.notes`, which are printed at startup.
* The network is closed unless `network_mode = "public"` or `allow_internet = true` opens it. (Harbor's default is
  public.) A note says so where neither key is set.
* `[metadata.capvec]` is capvec's own table, in a place that Harbor keeps and does not interpret. `cap_add = ["CHOWN"]`
  adds Linux capabilities, and `cap_reason` must say why; `pids = 256` limits the number of processes.
"""

from __future__ import annotations

import datetime
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from capvec.errors import UsageError
from capvec.records import Limits
from capvec.tasks.table import Table

MIN_CPUS = 0.01
DEFAULT_BUILD_TIMEOUT_S = 600.0
DEFAULT_VERIFIER_TIMEOUT_S = 600.0
DEFAULT_AGENT_TIMEOUT_S = 600.0
"""Harbor has no default; a trial needs one."""

_TEMPLATE = re.compile(r"\$\{([^}:]+)(?::-([^}]*))?\}")
_TOML_PLACE = re.compile(r"^(?P<what>.*) \(at (?P<where>.*)\)$", re.DOTALL)
_NETWORK = {"public": True, "no-network": False}


@dataclass(frozen=True)
class Settings:
    """The content of `task.toml` in capvec's units: seconds, MB, environments with every template resolved."""

    limits: Limits
    image: str | None
    build_timeout_s: float
    agent_timeout_s: float
    verifier_timeout_s: float
    env: Mapping[str, str]
    verifier_env: Mapping[str, str]
    solution_env: Mapping[str, str]
    metadata: Mapping[str, Any]
    notes: tuple[str, ...]
    """Keys without effect in capvec, and defaults that differ from Harbor's."""


def parse_settings(text: str, *, file: str, host_env: Mapping[str, str] | None = None) -> Settings:
    """Read a `task.toml`.

    Args:
        text: the file's content.
        file: the file's name in messages.
        host_env: variables that `${VAR}` in an `env` table refers to; by default those of this process.

    Raises:
        UsageError: a key is wrong; the message names file, key, value and expectation. Or the text is not TOML; the
            message names file, line and column.
    """
    root = Table(_load(text, file), file=file)
    _schema_version(root)
    _refuse_unsupported(root)
    environment, verifier, agent = root.table("environment"), root.table("verifier"), root.table("agent")
    own = root.table("metadata").table("capvec")
    host = os.environ if host_env is None else host_env
    storage = _size_mb(environment, "storage_mb", "storage")
    limits, notes = _limits(environment, own)
    for phase in (agent, verifier):
        _check_phase_network(phase, limits)
    settings = Settings(
        limits=limits,
        image=environment.text("docker_image"),
        build_timeout_s=environment.positive("build_timeout_sec", DEFAULT_BUILD_TIMEOUT_S),
        agent_timeout_s=agent.positive("timeout_sec", DEFAULT_AGENT_TIMEOUT_S),
        verifier_timeout_s=verifier.positive("timeout_sec", DEFAULT_VERIFIER_TIMEOUT_S),
        env=_env(environment, host),
        verifier_env=_env(verifier, host),
        solution_env=_env(root.table("solution"), host),
        metadata=_plain(root.table("metadata").take_all()),
        notes=(),
    )
    if storage is not None:
        notes.append("environment.storage_mb is not enforced: Docker's default storage driver has no quota")
    own.forbid_unknown()
    notes += [f"{key} has no effect in capvec" for key in root.unread()]
    return replace(settings, notes=tuple(notes))


def _load(text: str, file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = _TOML_PLACE.match(str(error))
        what, where = (match["what"], match["where"]) if match else (str(error), "unknown place")
        raise UsageError(f"{file}, {where}: not valid TOML: {what}") from error


def _schema_version(root: Table) -> None:
    """Accept every 1.x. `version` is the spelling before 1.1; `schema_version` takes precedence, as in Harbor."""
    older = root.text("version")
    version = root.text("schema_version") or older
    if version is not None and not re.fullmatch(r"1(\.\d+)*", version):
        key = "schema_version" if root.text("schema_version") else "version"
        root.reject(key, 'a Harbor task schema that capvec reads: "1.0" to "1.4"')


def _refuse_unsupported(root: Table) -> None:
    """Refuse keys that would change the task if they were ignored."""
    environment, verifier, agent = root.table("environment"), root.table("verifier"), root.table("agent")
    operating_system = environment.text("os")
    if operating_system is not None and operating_system.lower() != "linux":
        environment.reject("os", '"linux": capvec runs Linux containers only')
    if environment.whole("gpus", 0, minimum=0):
        environment.reject("gpus", "0: sandboxes have no GPU")
    for table, key, reason in (
        (root, "steps", "multi-step tasks are not supported; make one folder for each step"),
        (root, "multi_step_reward_strategy", "multi-step tasks are not supported"),
        (environment, "mcp_servers", "MCP servers are not supported"),
        (environment, "tpu", "sandboxes have no TPU"),
        (environment, "gpu_types", "sandboxes have no GPU"),
        (environment, "skills_dir", "agent skills are not supported"),
        (environment, "healthcheck", "health checks are not supported"),
        (environment, "workdir", "set WORKDIR in environment/Dockerfile instead"),
        (environment, "allowed_hosts", 'host allowlists are not supported; use "public" or "no-network"'),
        (agent, "allowed_hosts", "host allowlists are not supported"),
        (verifier, "allowed_hosts", "host allowlists are not supported"),
        (agent, "user", "the agent runs as the image's own user; set USER in environment/Dockerfile"),
        (verifier, "user", "the verifier runs as the image's own user"),
        (verifier, "environment", "a verifier in a container of its own is not supported"),
        (verifier, "collect", "compose services are not supported"),
    ):
        if table.take(key) not in (None, "", [], {}):
            table.reject(key, f"nothing here: {reason}")
    if verifier.text("environment_mode") not in (None, "shared"):
        verifier.reject("environment_mode", '"shared": a verifier in a container of its own is not supported')


def _limits(environment: Table, own: Table) -> tuple[Limits, list[str]]:
    default = Limits()
    network, notes = _network(environment)
    cap_add = tuple(name.upper().removeprefix("CAP_") for name in own.strings("cap_add"))
    reason = own.text("cap_reason")
    if cap_add and not (reason or "").strip():
        own.reject("cap_reason", "a sentence that says why the task needs the capabilities in cap_add")
    if "ALL" in cap_add:
        own.reject("cap_add", "the names of the capabilities that the task needs: ALL would undo the sandbox")
    memory_mb = _size_mb(environment, "memory_mb", "memory")
    cpus = environment.positive("cpus", default.cpus)
    if cpus < MIN_CPUS:
        environment.reject("cpus", f"at least {MIN_CPUS}, the least that Docker accepts")
    limits = Limits(
        cpus=cpus,
        memory_mb=default.memory_mb if memory_mb is None else memory_mb,
        pids=own.whole("pids", default.pids, minimum=1),
        network=network,
        cap_add=cap_add,
    )
    return limits, notes


def _network(environment: Table) -> tuple[bool, list[str]]:
    older = environment.flag("allow_internet")
    mode = environment.text("network_mode")
    if mode is not None:
        if mode not in _NETWORK:
            environment.reject("network_mode", '"public" or "no-network"')
        return _NETWORK[mode], []
    if older is not None:
        return older, []
    note = "environment.network_mode is not set: the sandbox has no network (Harbor's default is public)"
    return Limits().network, [note]


def _check_phase_network(phase: Table, limits: Limits) -> None:
    """Refuse a network mode of a phase that is not the environment's."""
    mode = phase.text("network_mode")
    if mode is not None and _NETWORK.get(mode) != limits.network:
        same = "public" if limits.network else "no-network"
        phase.reject("network_mode", f'"{same}", as for the environment: one sandbox has one network mode')


def _size_mb(table: Table, key: str, older: str) -> int | None:
    """The value of `memory_mb = 4096`, or of the older `memory = "4G"`, where 1G is 1024 MB as in Harbor."""
    size = table.whole(key, None, minimum=1)
    text = table.text(older)
    if text is None:
        return size
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([GMK])", text.strip().upper())
    megabytes = int(float(match[1]) * {"G": 1024, "M": 1, "K": 1 / 1024}[match[2]]) if match else 0
    if megabytes < 1:
        table.reject(older, 'a size of at least 1 MB such as "4G" or "512M"')
    if size is not None and size != megabytes:
        table.reject(older, f"{size} MB as {key} says, or only one of the two keys")
    return megabytes


def _env(table: Table, host: Mapping[str, str]) -> dict[str, str]:
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


def _plain(value: Any) -> Any:
    """A value with TOML's dates and times as ISO 8601 text, since metadata is written as JSON."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else value
