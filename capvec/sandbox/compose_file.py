"""Reads a task's `docker-compose.yaml`, and refuses what would let its services out of their sandbox.

Docker's own compose resolves the file: variables, anchors and the several spellings of one setting. Only what is on the
lists here is then taken over into the file that runs; anything else is refused by name.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml  # type: ignore[import-untyped]

from capvec.errors import UsageError
from capvec.reading import TEXT, read_text
from capvec.sandbox import docker_cli
from capvec.sandbox.base import MAIN
from capvec.task_records import Environment, Task, TaskStep

FILE = "docker-compose.yaml"
_UNSET = "capvec.invalid/unset"
_LOGS = ("verifier", "agent", "artifacts")
_S = 60.0
_BOTH = (
    *("environment", "depends_on", "expose", "hostname", "extra_hosts", "tmpfs", "shm_size", "ulimits"),
    *("volumes", "networks", "user", "working_dir"),
)
_KEPT = {
    MAIN: _BOTH,
    "": (
        *(*_BOTH, "command", "entrypoint", "healthcheck", "init", "read_only", "restart"),
        *("stop_grace_period", "stop_signal", "tty", "stdin_open"),
    ),
}
"""Keys of a service that are taken over as they are."""
_READ = ("image", "build", "command", "deploy", "cpus", "mem_limit", "pids_limit", "container_name")
_NO_EFFECT = ("labels", "pull_policy", "profiles", "mem_reservation", "memswap_limit")
_IDLE = re.compile(r"(?:^|[ ;])(?:sleep infinity|tail -f /dev/null)$")
"""A `command` of `main` that only keeps the container alive."""
_OURS = ("tests", "logs", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "proc", "sys", "dev")
"""Folders of `main` in which nothing is mounted: the verifier trusts what is there."""


@dataclass(frozen=True)
class Build:
    """How the image of a service is built."""

    context: Path
    dockerfile: Path
    options: tuple[str, ...]
    """Of `docker build`: arguments and the target."""


@dataclass(frozen=True)
class Services:
    """What a compose file describes."""

    program: str
    """The `docker` that has compose."""
    services: Mapping[str, Mapping[str, Any]]
    """Service → its settings in Compose's format, without its image."""
    images: Mapping[str, str]
    """Service → the ready image that it names."""
    builds: Mapping[str, Build]
    limits: Mapping[str, Mapping[str, Any]]
    """Service → `cpus`, `mem_limit`, `pids_limit` where the file sets them."""
    networks: Mapping[str, Mapping[str, Any]]
    volumes: Collection[str]


def check_services(task: Task) -> None:
    """Check that the compose files of a task ask for nothing that is refused, if the machine has compose.

    Raises:
        UsageError: compose cannot read one, or it asks for what a sandbox does not allow.
    """
    for environment in task.environments:
        if environment.compose and docker_cli.command_with("compose") is not None:
            read_services(task, environment)


def read_services(task: Task, environment: Environment) -> Services:
    """Read the compose file in the folder of an environment.

    Raises:
        UsageError: compose is missing or cannot read the file, or it asks for what a sandbox does not allow.
    """
    file = task.path / environment.folder / FILE
    program = docker_cli.command_with("compose")
    if program is None:
        raise UsageError(
            f"task {task.name}: {file} needs the plugin compose, which no `docker` on PATH has. Run `capvec setup`, "
            f"which installs it where it can, or install it by hand: {docker_cli.INSTALL}"
        )
    what = f"task {task.name}: {file}"
    services = _Reader(file, what).read(program, _variables(task, environment))
    if environment == task.environment:
        for step in task.steps:
            _check_named(what, step, services.services)
    return services


def _check_named(what: str, step: TaskStep, services: Mapping[str, Mapping[str, Any]]) -> None:
    """Check that commands and artifacts of a step are of services that there are, where Docker can copy files.

    Raises:
        UsageError: they are not.
    """
    for key, service in (
        *(("verifier.collect", one.service) for one in step.verifier.collect),
        *(("artifacts", one.service) for one in step.artifacts),
    ):
        if service not in services:
            raise UsageError(
                f"{what}: {key} in task.toml names the service {service!r}; expected one of {', '.join(services)}"
            )
    for artifact in step.artifacts if step.verifier.environment is not None else ():
        settings = services[artifact.service]
        mounted = [mount["target"] for mount in settings["volumes"] if mount["type"] == "tmpfs"]
        if any(PurePosixPath(artifact.source).is_relative_to(path) for path in (*mounted, *_tmpfs(settings))):
            raise UsageError(
                f"{what}: the artifact {artifact.source} is on a tmpfs of the service {artifact.service}, from which "
                "Docker copies no file; expected a folder of the image or a volume"
            )


def _variables(task: Task, environment: Environment) -> dict[str, str]:
    """The variables that a compose file may use: the task's own, and those that Harbor gives."""
    limits = environment.limits
    given = {
        "CONTEXT_DIR": str((task.path / environment.folder).resolve()),
        "MAIN_IMAGE_NAME": _UNSET,
        "CPUS": f"{limits.cpus:g}",
        "MEMORY": f"{limits.memory_mb}M",
    }
    if environment.image is not None:
        given["PREBUILT_IMAGE_NAME"] = environment.image
    for name in _LOGS:
        variable = "ARTIFACTS" if name == "artifacts" else f"{name.upper()}_LOGS"
        given |= {f"HOST_{variable}_PATH": f"/{_UNSET}/{name}", f"ENV_{variable}_PATH": f"/logs/{name}"}
    return {**environment.env, **given}


class _Reader:
    """Reads one file; every refusal names it."""

    def __init__(self, file: Path, what: str) -> None:
        self._file, self._folder, self._what = file, file.parent.resolve(), what

    def read(self, program: str, variables: Mapping[str, str]) -> Services:
        self._refuse_outside_files()
        resolved = self._resolve(program, variables)
        for key, value in resolved.items():
            if key not in ("name", "services", "networks", "volumes") and value:
                self._refuse(key)
        services = {name: self._service(name, table) for name, table in resolved["services"].items()}
        return Services(
            program=program,
            services=services,
            images={
                name: table["image"]
                for name, table in resolved["services"].items()
                if table.get("image") not in (None, _UNSET) and not table.get("build")
            },
            builds={
                name: self._build(name, table["build"])
                for name, table in resolved["services"].items()
                if table.get("build")
            },
            limits={name: self._limits(name, table) for name, table in resolved["services"].items()},
            networks={name: self._network(name, table or {}) for name, table in _tables(resolved, "networks")},
            volumes=[self._volume(name, table or {}) for name, table in _tables(resolved, "volumes")],
        )

    def _refuse(self, key: str, why: str = "not supported, since services run in a sandbox") -> None:
        raise UsageError(f"{self._what}: {key}: {why}")

    # -------------------------------------------------------------------------------------------- before compose

    def _refuse_outside_files(self) -> None:
        """Refuse what makes compose read files outside the task."""
        try:
            document = yaml.safe_load(read_text(self._file, TEXT))
        except (UsageError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise UsageError(f"{self._what}: {' '.join(str(error).split())}; expected one YAML document") from error
        if not isinstance(document, dict) or not isinstance(document.get("services") or {}, dict):
            raise UsageError(f"{self._what}: expected a table with `services`")
        if document.get("include"):
            self._refuse("include")
        self._inside(self._folder / ".env", ".env")
        for name, service in (document.get("services") or {}).items():
            if not isinstance(service, dict):
                continue  # compose says what is wrong
            extends = service.get("extends")
            if isinstance(extends, dict) and extends.get("file"):
                self._refuse(f"services.{name}.extends.file")
            listed = service.get("env_file") or []
            for entry in listed if isinstance(listed, list) else [listed]:
                path = str(entry.get("path") if isinstance(entry, dict) else entry)
                if "$" in path or path.startswith("~"):
                    self._refuse(f"services.{name}.env_file", f"{path!r}: expected a path without variables and ~")
                self._inside(self._folder / path, f"services.{name}.env_file")
            if service.get("label_file"):
                self._refuse(f"services.{name}.label_file")

    def _inside(self, path: Path, key: str) -> Path:
        resolved = path.resolve()
        if not resolved.is_relative_to(self._folder):
            self._refuse(key, f"{path}: expected a path inside {self._folder}")
        return resolved

    def _resolve(self, program: str, variables: Mapping[str, str]) -> dict[str, Any]:
        """The file as compose understands it, with these variables and no others: what this machine has is its own."""
        with tempfile.TemporaryDirectory(prefix="capvec-compose-") as scratch:
            base = Path(scratch) / "base.json"
            base.write_text(json.dumps({"services": {MAIN: {"image": _UNSET}}}), encoding="utf-8")
            argv = [program, f"--config={docker_cli.config_folder()}", "compose"]
            argv += ["--project-name=capvec", f"--project-directory={self._folder}"]
            argv += [f"--file={base}", f"--file={self._file}", "config", "--format=json"]
            code, printed, said = docker_cli.run(argv, variables, timeout_s=_S)
        if code != 0:
            raise UsageError(f"{self._what}: `docker compose config` refuses it: {_one_line(said)}")
        if unset := sorted(set(re.findall(r'The \\?"(\w+)\\?" variable is not set', said))):
            raise UsageError(
                f"{self._what}: {', '.join(f'${{{name}}}' for name in unset)}: not set; expected a default such as "
                f"${{{unset[0]}:-value}}, or environment.env in task.toml"
            )
        resolved: dict[str, Any] = json.loads(printed.replace("$$", "$"))  # it is written to be read again
        return resolved

    # -------------------------------------------------------------------------------------------- after compose

    def _service(self, name: str, table: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a service that are taken over."""
        where, kept = f"services.{name}", _KEPT.get(name, _KEPT[""])
        for key, value in table.items():
            if value not in (None, False, "", [], {}) and key not in (*kept, *_READ, *_NO_EFFECT):
                self._refuse(f"{where}.{key}")
        self._refuse_unset(f"{where}.environment", table.get("environment") or {})
        clean = {key: table[key] for key in kept if table.get(key) is not None}
        if name == MAIN and not _IDLE.search(" ".join(table.get("command") or ["sleep infinity"])):
            self._refuse(
                f"{where}.command", 'expected ["sh", "-c", "sleep infinity"]: the agent acts in this container'
            )
        if any("host-gateway" in host for host in table.get("extra_hosts") or ()):
            self._refuse(f"{where}.extra_hosts", "host-gateway: services do not reach the host")
        aliases = [table["container_name"]] if table.get("container_name") else []
        networks = {key: self._attached(where, key, one or {}) for key, one in _tables(table, "networks")}
        if networks:
            clean["networks"] = {key: {"aliases": [*found, *aliases]} for key, found in networks.items()}
        mounts = [self._mount(name, mount) for mount in table.get("volumes") or ()]
        clean["volumes"] = [mount for mount in mounts if mount]
        for path in _tmpfs(table) if name == MAIN else ():
            self._refuse_ours(f"{where}.tmpfs", path)
        return clean

    def _refuse_unset(self, where: str, given: Mapping[str, Any]) -> None:
        """Refuse a name without a value: compose would take it from this machine, whose secrets stay here."""
        for key, value in given.items():
            if value is None:
                self._refuse(f"{where}.{key}", "no value; expected one, or environment.env in task.toml")

    def _attached(self, where: str, name: str, table: Mapping[str, Any]) -> list[str]:
        for key, value in table.items():
            if key != "aliases" and value:
                self._refuse(f"{where}.networks.{name}.{key}")
        return list(table.get("aliases") or ())

    def _mount(self, service: str, mount: Mapping[str, Any]) -> dict[str, Any] | None:
        """A mount that is allowed; None for one of `main`'s logs, which are there in any case."""
        key, kind, target = f"services.{service}.volumes", mount.get("type"), str(mount.get("target"))
        source = str(mount.get("source") or "")
        if service == MAIN:
            if source.startswith(f"/{_UNSET}/"):
                return None
            self._refuse_ours(key, target)
        clean = {"type": kind, "target": target}
        if kind == "tmpfs":
            return clean
        if kind == "bind":
            path = self._inside(Path(source), key)
            if not mount.get("read_only"):
                self._refuse(key, f"{source}:{target} could change the task; expected it read-only (`:ro`)")
            if not path.exists():
                self._refuse(key, f"{source} does not exist")
            # A Docker of another machine does not have the path, and must not make an empty folder of it.
            return clean | {"source": str(path), "read_only": True, "bind": {"create_host_path": False}}
        if kind == "volume":
            return clean | {"read_only": bool(mount.get("read_only"))} | ({"source": source} if source else {})
        self._refuse(key, f"type {kind}: expected a named volume, tmpfs, or a bind")
        return None

    def _refuse_ours(self, key: str, target: str) -> None:
        parts = PurePosixPath("/", target).parts[1:]
        if (
            not target.startswith("/")
            or not parts
            or ".." in parts
            or (parts[0] in _OURS and parts[:2] not in (("usr", "local"), ("usr", "src")))
        ):
            self._refuse(key, f"{target}: expected a folder that is not the system's or the verifier's")

    def _build(self, name: str, table: Mapping[str, Any]) -> Build:
        where = f"services.{name}.build"
        for key, value in table.items():
            if value and key not in ("context", "dockerfile", "args", "target", "labels", "pull", "no_cache", "tags"):
                self._refuse(f"{where}.{key}")
        context = self._inside(Path(table["context"]), f"{where}.context")
        dockerfile = self._inside(context / table.get("dockerfile", "Dockerfile"), f"{where}.dockerfile")
        self._refuse_unset(f"{where}.args", table.get("args") or {})
        given = {key: str(value) for key, value in (table.get("args") or {}).items()}
        options = [f"--build-arg={key}={value}" for key, value in given.items()]
        options += [f"--target={table['target']}"] if table.get("target") else []
        return Build(context, dockerfile, tuple(options))

    def _limits(self, name: str, table: Mapping[str, Any]) -> dict[str, Any]:
        deploy = table.get("deploy") or {}
        resources = deploy.get("resources") or {}
        reserved = resources.get("reservations") or {}
        for where, given, known in (
            ("deploy", deploy, ("resources", "placement", "mode", "replicas", "restart_policy")),
            ("deploy.resources", resources, ("limits", "reservations")),
            ("deploy.resources.reservations", reserved, ("cpus", "memory")),
        ):
            for key, value in given.items():
                if value and key not in known:
                    self._refuse(f"services.{name}.{where}.{key}")
        if deploy.get("replicas", 1) != 1 or deploy.get("mode", "replicated") != "replicated":
            self._refuse(f"services.{name}.deploy.replicas", "expected 1")
        limits = resources.get("limits") or {}
        found = {
            "cpus": limits.get("cpus") or table.get("cpus"),
            "mem_limit": limits.get("memory") or table.get("mem_limit"),
            "pids_limit": limits.get("pids") or table.get("pids_limit"),
        }
        return {key: value for key, value in found.items() if value}

    def _network(self, name: str, table: Mapping[str, Any]) -> dict[str, Any]:
        for key, value in table.items():
            allowed = key in ("name", "internal", "labels") or (key == "driver" and value == "bridge")
            if value and not allowed:
                self._refuse(f"networks.{name}.{key}")
        return {"internal": bool(table.get("internal"))}

    def _volume(self, name: str, table: Mapping[str, Any]) -> str:
        for key, value in table.items():
            if value and key not in ("name", "labels") and (key, value) != ("driver", "local"):
                self._refuse(f"volumes.{name}.{key}")
        return name


def _tables(parent: Mapping[str, Any], key: str) -> Collection[tuple[str, Any]]:
    return (parent.get(key) or {}).items()


def _tmpfs(table: Mapping[str, Any]) -> list[str]:
    """The folders of a service that are in memory."""
    listed = table.get("tmpfs") or []
    return [str(one).split(":")[0] for one in (listed if isinstance(listed, list) else [listed])]


def _one_line(text: str) -> str:
    return " ".join(text.split())[-500:] or "no output"
