"""The worker's HTCondor configuration: one set of templates for VMs, static workers, and matching."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from ..domain.model import Cloud, Policy, Vm
from .offer import offered

SECURITY_FILE: Final = "10-distcloud-security.conf"
WORKER_FILE: Final = "50-distcloud-worker.conf"
CONFIG_DIRECTORY: Final = "/etc/condor/config.d"
FIREWALL_FILE: Final = "/etc/distcloud/worker.nft"
UNIT_DROP_IN: Final = "/etc/systemd/system/condor.service.d/50-distcloud.conf"

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BOUND_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # part of the worker's identity
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
_OWN_ATTRIBUTES: Final = (
    "cs_host_id",
    "group_name",
    "cloud_name",
    "flavor",
    "target_alias",
    "DistcloudVm",
    "DistcloudRegion",
    "DistcloudImage",
)


class SettingsError(ValueError):
    """Invalid worker setting; the message names the setting and what is allowed."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """The input of the worker's configuration; nothing here is secret.

    `host` is the short host name (for a VM its ledger id), `cores` and `memory_mib` what the worker offers (None: what HTCondor
    detects). Durations are in seconds.
    """

    host: str
    domain: str
    condor_host: str
    group: str
    cloud: str = ""
    region: str = ""
    flavor: str = ""
    image: str = ""
    alias: str | None = None
    vm_id: str = ""
    cloud_type: str = "openstack"
    cores: int | None = None
    memory_mib: int | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    scheduler_identity: str = ""
    central_address: str | None = None
    retirement_seconds: int = 86400
    claim_worklife: int = 300
    update_interval: int = 60
    noclaim_shutdown: int | None = 7200
    slot_users: int = 8
    firewall: bool = True

    @property
    def fqdn(self) -> str:
        return f"{self.host}.{self.domain}"

    @property
    def ledger_id(self) -> str:
        return self.vm_id or self.host

    @property
    def scheduler(self) -> str:
        """The identity that may drain this worker, besides its own root."""
        return self.scheduler_identity or f"scheduler@{self.domain}"

    @property
    def users(self) -> int:
        """Number of slot users: each dynamic slot needs its own."""
        return max(self.slot_users, self.cores or 0)

    def slot_attributes(self) -> dict[str, str]:
        """The attributes that the slot advertises: those of the cloud, then the scheduler's own."""
        own = {
            "cs_host_id": self.ledger_id,
            "group_name": self.group,
            "cloud_name": self.cloud,
            "flavor": self.flavor,
            "DistcloudVm": self.ledger_id,
            "DistcloudRegion": self.region,
            "DistcloudImage": self.image,
        }
        if self.alias is not None:
            own["target_alias"] = self.alias
        return {**self.attributes, **own}


def settings_for(
    vm: Vm,
    cloud: Cloud,
    *,
    domain: str,
    condor_host: str,
    central_address: str | None = None,
    scheduler_identity: str = "",
    policy: Policy | None = None,
    group_keep_alive: int = 0,
) -> WorkerSettings:
    """The settings of one VM of the ledger, for a group whose idle workers are kept for `group_keep_alive` seconds."""
    policy = policy or Policy()
    offer = offered(vm.resources)
    return WorkerSettings(
        host=vm.id,
        vm_id=vm.id,
        domain=domain,
        condor_host=condor_host,
        central_address=central_address,
        scheduler_identity=scheduler_identity,
        group=vm.group,
        cloud=vm.cloud,
        region=cloud.region,
        flavor=vm.flavor,
        image=vm.image,
        alias=vm.alias,
        cores=offer.cores,
        memory_mib=offer.ram_mib,
        attributes=cloud.attributes,
        retirement_seconds=policy.drain_timeout,
        # Safety net inside the VM: it shuts down by itself only long after the planner would have retired it.
        noclaim_shutdown=2
        * max(policy.first_use_timeout, policy.registration_timeout, policy.minimum_keep_alive, group_keep_alive, vm.keep_alive or 0),
    )


def configuration(settings: WorkerSettings) -> dict[str, str]:
    """The configuration files of a worker, path to text; without secrets. Raises SettingsError."""
    check(settings)
    files = {
        f"{CONFIG_DIRECTORY}/{SECURITY_FILE}": _render(SECURITY_FILE, settings),
        f"{CONFIG_DIRECTORY}/{WORKER_FILE}": _render(WORKER_FILE, settings),
        UNIT_DROP_IN: _render("condor.service.conf", settings),
    }
    if settings.firewall:
        files[FIREWALL_FILE] = _render("worker.nft", settings)
    return files


def worker_file(settings: WorkerSettings) -> str:
    """The file that defines the worker's slot; the synthetic slot ad is read from it. Raises SettingsError."""
    check(settings)
    return _render(WORKER_FILE, settings)


def check(settings: WorkerSettings) -> None:
    """Reject values that would change the meaning of a configuration file. Raises SettingsError."""
    for name in ("host", "domain", "condor_host"):
        value = getattr(settings, name)
        if not _HOST.fullmatch(value):
            raise SettingsError(f"{name}: {value!r} is not a valid host name; use letters, digits, dots and hyphens")
    texts = {"group": settings.group, "scheduler_identity": settings.scheduler_identity, "central_address": settings.central_address or ""}
    texts |= {f"attribute {name}": value for name, value in settings.slot_attributes().items()}
    for name, value in texts.items():
        if any(ord(char) < 32 or ord(char) == 127 for char in value):
            raise SettingsError(f"{name}: control characters and line breaks are not allowed in {value!r}")
    bound = {"group": settings.group, "cloud": settings.cloud, "region": settings.region, "alias": settings.alias or ""}
    for name, value in bound.items():
        if (value or name == "group") and not _BOUND_NAME.fullmatch(value):
            raise SettingsError(f"{name}: {value!r} should be a name of letters, digits, dots, underscores and hyphens")
    if re.search(r"[\s,$]", settings.scheduler):
        raise SettingsError(f"scheduler_identity: {settings.scheduler!r} must be one identity, like scheduler@example.org")
    if settings.central_address and not re.fullmatch(r"[0-9A-Fa-f.:]+", settings.central_address):
        raise SettingsError(f"central_address: {settings.central_address!r} is not a valid IP address")
    for name in settings.attributes:
        if not _NAME.fullmatch(name):
            raise SettingsError(f"attribute {name!r}: invalid name; use letters, digits and underscores, starting with a letter")
        if name.lower() in _reserved():
            raise SettingsError(
                f"attribute {name!r}: reserved for the scheduler or a configuration variable of the worker; choose another name"
            )


@cache
def _reserved() -> frozenset[str]:
    environment = _environment()
    assert environment.loader is not None
    sources = [environment.loader.get_source(environment, f"{name}.j2")[0] for name in (SECURITY_FILE, WORKER_FILE)]
    assigned = {match.lower() for source in sources for match in re.findall(r"^([A-Za-z_.]+) *=", source, re.MULTILINE)}
    return frozenset(assigned | {name.lower() for name in _OWN_ATTRIBUTES})


def _quoted(value: str) -> str:
    """A ClassAd string in a configuration file: quotes and backslashes escaped, no macro expanded."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$(DOLLAR)")
    return f'"{escaped}"'


def _render(name: str, settings: WorkerSettings) -> str:
    return _template(f"{name}.j2").render(worker=settings)


@cache
def _template(name: str) -> Template:
    return _environment().get_template(name)


@cache
def _environment() -> Environment:
    environment = Environment(  # noqa: S701  configuration files, not HTML
        loader=PackageLoader("distcloud.scheduler.worker"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["classad"] = _quoted
    return environment
