"""Runs the services of a task's `docker-compose.yaml` through Docker's own compose: up and down with the trial.

The file that runs is written here. It has of the task's file what `capvec.sandbox.compose_file` let pass, with the
hardening and the limits of a single container, and with labels on everything by which the reaper finds it.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from capvec.errors import EnvironmentFault
from capvec.sandbox import docker_cli, files
from capvec.sandbox.base import LOG_FOLDERS, MAIN
from capvec.sandbox.building import Say
from capvec.sandbox.compose_file import FILE, Services, read_services
from capvec.sandbox.compose_images import images_of
from capvec.sandbox.containers import ImageConfig, Started, StartSettings, most_cpus, privileges, settings_of
from capvec.sandbox.docker_host import HostClient
from capvec.sandbox.network import Connection
from capvec.sandbox.reaper import LATE_S, PROJECT_LABEL, remove_project
from capvec.sandbox.storage import of_service
from capvec.task_records import Capabilities, Environment, Limits, Task

WAIT_S = 180
"""How long services may take until they run and are healthy."""
_CLOSED = {"internal": True, "driver_opts": {"com.docker.network.bridge.inhibit_ipv4": "true"}}
"""A network without a way out. Its bridge has no address, so the host is not reached either."""


@dataclass(frozen=True)
class Project:
    """The services of an environment of a task."""

    client: HostClient
    task: Task
    environment: Environment
    services: Services
    images: Mapping[str, str]
    """Service → id of its image."""
    main: ImageConfig

    @classmethod
    def of(cls, client: HostClient, task: Task, environment: Environment, say: Say) -> Project:
        """Read the compose file, and find its images.

        Raises:
            UsageError: the file asks for what a sandbox does not allow, or an image cannot be had.
        """
        services = read_services(task, environment)
        found = {name: image.id for name, image in images_of(client, task, environment, services, say).items()}
        main, settings = ImageConfig.inspect(client, found[MAIN]), services.services[MAIN]
        user, workdir = settings.get("user", main.user), settings.get("working_dir", main.workdir)
        return cls(client, task, environment, services, found, replace(main, user=user, workdir=workdir))

    def start(self, settings: StartSettings) -> Started:
        """Bring the services up, and wait until they are healthy.

        Raises:
            EnvironmentFault: a service does not start, ends, or does not become healthy.
        """
        name, wanted = settings.name, settings.wanted
        settings.cleanup.callback(remove_project, self.client, name)
        with tempfile.TemporaryDirectory(prefix="capvec-compose-") as scratch:
            file = Path(scratch) / FILE
            switched = len(set(wanted)) > 1
            written = self._file(settings, public=wanted[0] and not switched)
            file.write_text(json.dumps(written).replace("$", "$$"), encoding="utf-8")
            try:
                self._compose(name, file, "--no-start")
            except KeyboardInterrupt:
                time.sleep(LATE_S)  # Docker completes a request even if its caller has left
                raise
            cast("Any", self.client.api).put_archive(name, "/", files.folders(("/logs", *LOG_FOLDERS)))
            connection = self._connection(settings) if switched else None
            beside = {service: _name(name, service) for service in self.services.services if service != MAIN}
            if lasting := beside.keys() - self._completing():
                self._compose(name, file, "--detach", "--no-recreate", "--wait", f"--wait-timeout={WAIT_S}", *lasting)
            self._compose(name, file, "--detach", "--no-recreate", MAIN)
        workdir = self.environment.workdir or self.main.workdir
        return Started(name, self.main, workdir, settings.is_capable(self.main), connection, beside)

    def _connection(self, settings: StartSettings) -> Connection:
        """Connect the services, which are not up yet, to a network beside the file's own, which phases open and close.

        Over it no service reaches another, so that their names always stand for addresses that stay.
        """
        name = settings.name
        network = f"{name}-public"
        self.client.networks.create(
            network,
            options={"com.docker.network.bridge.enable_icc": "false"},
            labels={**settings.labels, PROJECT_LABEL: name},
        )
        reaching = [_name(name, service) for service in self.services.services if not self._is_internal(service)]
        connection = Connection(self.client, reaching, network=network, default=settings.wanted[0], connected=False)
        connection.set(None)
        return connection

    def _completing(self) -> set[str]:
        """Services that end before others start, for which compose waits when it starts those."""
        return {
            needed
            for settings in self.services.services.values()
            for needed, how in (settings.get("depends_on") or {}).items()
            if how["condition"] == "service_completed_successfully"
        }

    def _is_internal(self, service: str) -> bool:
        """Whether the file has a service on networks alone that lead nowhere."""
        joined = self.services.services[service].get("networks") or ()
        return bool(joined) and all(self.services.networks[network]["internal"] for network in joined)

    def _compose(self, name: str, file: Path, *options: str) -> None:
        env = {key: value for key, value in self.client.host.environment.items() if not key.startswith("COMPOSE_")}
        argv = [self.services.program, "compose", "--ansi=never", f"--project-name={name}", f"--file={file}", "up"]
        argv += ["--no-build", "--pull=never", "--quiet-pull", *options]
        code, _, said = docker_cli.run(argv, env, timeout_s=WAIT_S + 60)
        if code != 0:
            raise EnvironmentFault(
                f"the services of {self.environment.folder}/{FILE} do not start: {' '.join(said.split())[-400:]}"
                f"{self._printed(name)}"
            )

    def _printed(self, name: str) -> str:
        """What services printed last that ended or are unhealthy."""
        printed = ""
        for container in self.client.containers.list(all=True, filters={"label": f"{PROJECT_LABEL}={name}"}):
            state = container.attrs["State"]
            if state["Status"] == "exited" or (state.get("Health") or {}).get("Status") == "unhealthy":
                last = container.logs(tail=5).decode(errors="replace").strip()[-300:]
                service = container.labels.get("com.docker.compose.service")
                printed += f"; {service} (exit code {state['ExitCode']}) printed: {last or 'nothing'}"
        return printed

    def _file(self, start: StartSettings, *, public: bool) -> dict[str, Any]:
        labels, allowed = dict(start.labels), start.capabilities
        return {
            "services": {
                service: {
                    **(self._main(allowed) if service == MAIN else self._beside(service, allowed)),
                    "container_name": _name(start.name, service),
                    **of_service(self.environment.limits.storage_mb),
                    "image": self.images[service],
                    "labels": labels,
                }
                for service in self.services.services
            },
            "networks": {
                network: {**({} if public and not settings["internal"] else _CLOSED), "labels": labels}
                for network, settings in self.services.networks.items()
            },
            "volumes": {volume: {"labels": labels} for volume in self.services.volumes},
        }

    def _main(self, capabilities: Capabilities) -> dict[str, Any]:
        """The agent's container: what it is without services, and what the file adds."""
        kept = dict(self.services.services[MAIN])
        settings = settings_of(self.client, self.main, self.environment, capabilities)
        cpus = settings.pop("nano_cpus") / 1e9
        return {
            **kept,
            "cpus": cpus,
            **settings,
            **self._limits(MAIN),
            "environment": {**kept.get("environment", {}), **self.environment.env},
            # What the agent could change would run in its container; and `up --wait` fails for one that is disabled.
            **({"healthcheck": {"disable": True}} if self.main.healthcheck else {}),
        }

    def _beside(self, service: str, capabilities: Capabilities) -> dict[str, Any]:
        default = Limits()
        return {
            **privileges(capabilities, default),
            "pids_limit": default.pids,
            "cpus": default.cpus,
            "mem_limit": f"{default.memory_mb}m",
            "memswap_limit": f"{default.memory_mb}m",
            **self.services.services[service],
            **self._limits(service),
        }

    def _limits(self, service: str) -> dict[str, Any]:
        """The limits that the file sets."""
        found = dict(self.services.limits[service])
        if "cpus" in found:
            found["cpus"] = most_cpus(self.client, float(found["cpus"]))
        if "mem_limit" in found:
            found["memswap_limit"] = found["mem_limit"]
        return found


def _name(project: str, service: str) -> str:
    """Name of the container of a service; that of `main` is the project's."""
    return project if service == MAIN else f"{project}-{service}"
