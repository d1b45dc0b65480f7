"""Request and response schemas of groups, clouds and metadata.

A field that is left out keeps its value, or gets its default at creation. A field that is null is reset to its default.
"""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, field_validator

from ...common.http.resources import Change
from ...common.http.schemas import MAX_NUMBER, Count, Moment, Name, Request, Response, Secret, ShortText, Text, Timestamp
from ...common.validators import certificates
from . import validation as checks

ATTRIBUTE = r"^[A-Za-z_][A-Za-z0-9_]{0,62}$"
RESERVED_ATTRIBUTES = frozenset(
    {"cs_host_id", "group_name", "cloud_name", "flavor", "target_alias", "name", "machine", "start", "requirements"}
)


class GroupRequest(Request):
    """A tenant whose jobs are served, with its defaults."""

    keep_alive: Annotated[int, Field(ge=0, le=2_592_000)] | None = Field(None, description="seconds an idle worker is kept (default 300)")
    default_flavor: ShortText | None = Field(None, description="for jobs that do not request one; default: the smallest that fits")
    default_image: ShortText | None = Field(None, description="for jobs that do not request one")
    aliases: Annotated[dict[Name, Annotated[list[Name], Field(max_length=200)]], Field(max_length=100)] | None = Field(
        None, description="maps an alias to names of clouds; replaced as a whole"
    )


class AuthRequest(Request):
    """An account, with the keys of clouds.yaml: an application credential, or a user with a project."""

    auth_url: ShortText | None = Field(None, description="Keystone's URL, ending in /v3")
    interface: Literal["public", "internal", "admin"] | None = Field(None, description="endpoint interface (default public)")
    application_credential_id: ShortText | None = None
    application_credential_secret: Secret | None = Field(None, description="write-only")
    username: ShortText | None = None
    password: Secret | None = Field(None, description="write-only")
    user_domain_name: ShortText | None = Field(None, description="default Default")
    project_name: ShortText | None = None
    project_id: ShortText | None = None
    project_domain_name: ShortText | None = Field(None, description="default Default")

    @field_validator("auth_url")
    @classmethod
    def _valid_auth_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        try:
            parts = urlsplit(url)
            valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and parts.username is None
        except ValueError:  # an incomplete IPv6 address, a port that is not a number below 65536
            valid = False
        if not valid or not url.isprintable() or " " in url or "?" in url or "#" in url:
            raise ValueError("should be an http or https URL without user or password, such as https://keystone.example.org:5000/v3")
        return url.rstrip("/")


class CloudRequest(Request):
    """An account in a region as one group uses it."""

    driver: Literal["openstack"] | None = Field(None, description="default openstack")
    region: Name | None = Field(None, description="region_name; required at creation")
    auth: AuthRequest | None = Field(None, description="required at creation; merged key by key")
    ca_certificate: Annotated[str, StringConstraints(max_length=262_144)] | None = Field(None, description="PEM; default: the system's")
    credential_expires_at: Moment = Field(None, description="ISO 8601; no workers are booted shortly before it")
    enabled: bool | None = Field(None, description="false at creation; only scope cloud_admin may set it; null keeps it")
    frozen: bool | None = Field(None, description="true: boot no new workers (default false)")
    priority: Annotated[int, Field(ge=-MAX_NUMBER, le=MAX_NUMBER)] | None = Field(
        None, description="clouds with a higher priority are used first (default 0)"
    )
    max_vms: Count | None = Field(None, description="default: limited by the quota only")
    max_cores: Count | None = None
    max_ram_mib: Count | None = None
    soft_max_vms: Count | None = Field(None, description="boot no new worker once the project has this many servers, foreign ones included")
    soft_max_cores: Count | None = None
    soft_max_ram_mib: Count | None = None
    default_flavor: ShortText | None = None
    default_image: ShortText | None = None
    flavor_exclusions: Annotated[list[ShortText], Field(max_length=200)] | None = Field(
        None, description="names of flavors that are never used"
    )
    network: ShortText | None = Field(None, description="name or id; default: the only network")
    security_groups: Annotated[list[ShortText], Field(max_length=50)] | None = None
    keypair: ShortText | None = None
    attributes: (
        Annotated[
            dict[Annotated[str, StringConstraints(pattern=ATTRIBUTE)], Annotated[Text, StringConstraints(max_length=1024)]],
            Field(max_length=50),
        ]
        | None
    ) = Field(None, description="additional attributes of its workers' slots; replaced as a whole")

    @field_validator("ca_certificate")
    @classmethod
    def _valid_pem(cls, text: str | None) -> str | None:
        return None if text is None else certificates(text)

    @field_validator("attributes")
    @classmethod
    def _not_reserved(cls, attributes: dict[str, str] | None) -> dict[str, str] | None:
        taken = sorted(key for key in attributes or {} if key.lower() in RESERVED_ATTRIBUTES or key.lower().startswith("distcloud"))
        if taken:
            raise ValueError(f"{', '.join(taken)}: reserved for the scheduler; use another name")
        return attributes


class MetadataRequest(Request):
    """A cloud-init part of a group, or of one of its clouds."""

    content: Text | None = Field(None, description="a template with variables and conditions; required at creation")
    mime_type: Annotated[str, AfterValidator(checks.mime_type)] | None = Field(
        None, description="MIME type for cloud-init (default cloud-config)"
    )
    priority: Annotated[int, Field(ge=-MAX_NUMBER, le=MAX_NUMBER)] | None = Field(
        None, description="parts with a lower priority come first (default 0)"
    )
    enabled: bool | None = Field(None, description="default true")
    excluded_clouds: Annotated[list[Name], Field(max_length=200)] | None = Field(None, description="clouds whose workers do not receive it")


class GroupResponse(Response):
    """A group."""

    name: str
    keep_alive: int
    default_flavor: str | None
    default_image: str | None
    aliases: dict[str, list[str]]


def _absent(value: object) -> bool:
    return value is None


class AuthResponse(Response):
    """An account; only the keys of its kind are present. Secrets are shown as ********."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    auth_type: Literal["v3applicationcredential", "v3password"]
    auth_url: str
    interface: str | None = Field(None, exclude_if=_absent)
    application_credential_id: str | None = Field(None, exclude_if=_absent)
    application_credential_secret: str | None = Field(None, exclude_if=_absent)
    username: str | None = Field(None, exclude_if=_absent)
    password: str | None = Field(None, exclude_if=_absent)
    user_domain_name: str | None = Field(None, exclude_if=_absent)
    project_name: str | None = Field(None, exclude_if=_absent)
    project_id: str | None = Field(None, exclude_if=_absent)
    project_domain_name: str | None = Field(None, exclude_if=_absent)


class CloudResponse(Response):
    """A cloud."""

    group: str
    name: str
    region: str
    driver: str
    auth: AuthResponse
    ca_certificate: str | None
    credential_expires_at: Timestamp | None
    enabled: bool
    frozen: bool
    priority: int
    max_vms: int | None
    max_cores: int | None
    max_ram_mib: int | None
    soft_max_vms: int | None
    soft_max_cores: int | None
    soft_max_ram_mib: int | None
    default_flavor: str | None
    default_image: str | None
    flavor_exclusions: list[str]
    network: str | None
    security_groups: list[str]
    keypair: str | None
    attributes: dict[str, str]


class MetadataResponse(Response):
    """A cloud-init part; `cloud` is null for a part of the group."""

    group: str
    cloud: str | None
    name: str
    content: Annotated[str, Field(description="shown as ******** to tokens that may not change the group")]
    content_bytes: Annotated[int, Field(description="length of the content in UTF-8")]
    mime_type: str
    priority: int
    enabled: bool
    excluded_clouds: list[str]


class GroupChange(Change[GroupResponse]):
    """What a request changed, or would change in a dry run."""


class CloudChange(Change[CloudResponse]):
    """What a request changed, or would change in a dry run. Secrets are shown as ********."""


class MetadataChange(Change[MetadataResponse]):
    """What a request changed, or would change in a dry run."""
