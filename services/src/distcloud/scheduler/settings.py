"""Schema of the scheduler's configuration file."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, StringConstraints, field_validator, model_validator

from ..common.config import EngineSettings, Scope, Settings
from ..openstack import EndpointPolicy
from .authorization import SCOPES
from .domain.model import Policy


class PoolSettings(Settings):
    """The HTCondor pool that the scheduler serves, and its submit nodes."""

    collector: str = Field(min_length=1, description="host name, followed by :port if it is not 9618")
    schedds: list[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@-]{0,254}$")]] = Field(
        min_length=1, max_length=32, description="names of the schedds whose queues are read, as registered in the collector"
    )
    domain: str = Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", description="trust and UID domain")
    token_directory: Path = Field(default=Path("/etc/distcloud/pool-tokens"), description="directory with the scheduler's IDTOKENS")

    @field_validator("schedds")
    @classmethod
    def _unique_names(cls, names: list[str]) -> list[str]:
        if len({name.lower() for name in names}) < len(names):
            raise ValueError("should list each schedd only once")
        return names


class OpenStackSettings(Settings):
    """Which addresses the scheduler contacts on behalf of a cloud: those of its auth_url and of its catalog."""

    local_endpoints: bool = Field(
        default=False, description="allow loopback, link-local and multicast addresses: services of the scheduler's own host"
    )
    plain_http_endpoints: bool = Field(default=False, description="allow http endpoints in the catalog of a cloud whose auth_url is https")

    @property
    def endpoints(self) -> EndpointPolicy:
        return EndpointPolicy(local=self.local_endpoints, plain_http=self.plain_http_endpoints)


class SchedulerSettings(EngineSettings):
    """All settings of the scheduler; durations are seconds."""

    ENGINE: ClassVar[str] = "scheduler"
    SCOPES: ClassVar[tuple[Scope, ...]] = SCOPES

    pool: PoolSettings
    condor_host: str = Field(min_length=1, description="name of the central manager as seen by workers")
    central_address: str | None = Field(default=None, description="address of the central manager, if workers cannot resolve its name")
    openstack: OpenStackSettings = OpenStackSettings()
    minter_socket: Path = Path("/run/distcloud/minter.sock")
    policy: Policy = Policy()

    @field_validator("policy", mode="before")
    @classmethod
    def _known_policy_keys(cls, value: Any) -> Any:
        """Reject unknown keys: the planner's policy is a plain dataclass, for which they would be ignored."""
        if not isinstance(value, dict):
            return value
        known = {item.name for item in fields(Policy)}
        unknown = sorted(str(key) for key in value if key not in known)
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: not a known key; known are {', '.join(sorted(known))}")
        negative = sorted(str(key) for key, number in value.items() if isinstance(number, int) and number < 0)
        if negative:
            raise ValueError(f"{', '.join(negative)}: should be 0 or more")
        return value

    @model_validator(mode="after")
    def _age_exceeds_drain_timeout(self) -> SchedulerSettings:
        if self.policy.max_vm_age <= self.policy.drain_timeout:
            raise ValueError(
                "policy.max_vm_age should be greater than policy.drain_timeout, or every worker would be drained as soon as it is created"
            )
        return self
