"""Request and response schemas of groups, clouds and metadata.

A field that is left out keeps its value, or gets its default at creation. A field that is null is reset to its default.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, field_validator

from . import validation as checks

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"
ATTRIBUTE = r"^[A-Za-z_][A-Za-z0-9_]{0,62}$"
RESERVED_ATTRIBUTES = frozenset(
    {"cs_host_id", "group_name", "cloud_name", "flavor", "target_alias", "name", "machine", "start", "requirements"}
)
MAX_NUMBER = 1_000_000_000


def _without_nul(text: str) -> str:
    if "\x00" in text:
        raise ValueError("should not contain a NUL character")
    return text


Text = Annotated[str, AfterValidator(_without_nul)]
ShortText = Annotated[Text, StringConstraints(min_length=1, max_length=255)]
Name = Annotated[str, StringConstraints(pattern=NAME)]
Secret = Annotated[Text, StringConstraints(min_length=1, max_length=4096)]
Limit = Annotated[int, Field(ge=0, le=MAX_NUMBER)]
Moment = Annotated[float | None, BeforeValidator(checks.moment)]


class RequestSchema(BaseModel):
    """Base of all request schemas: strict types, no unknown fields."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    def explicit_fields(self) -> dict[str, Any]:
        """Only the fields that the request contains, including those that are null."""
        return self.model_dump(exclude_unset=True)


class GroupRequest(RequestSchema):
    """A tenant whose jobs are served, with its defaults."""

    keep_alive: Annotated[int, Field(ge=0, le=2_592_000)] | None = Field(None, description="seconds an idle worker is kept (default 300)")
    default_flavor: ShortText | None = Field(None, description="for jobs that do not request one; default: the smallest that fits")
    default_image: ShortText | None = Field(None, description="for jobs that do not request one")
    aliases: Annotated[dict[Name, Annotated[list[Name], Field(max_length=200)]], Field(max_length=100)] | None = Field(
        None, description="maps an alias to names of clouds; replaced as a whole"
    )


class AuthRequest(RequestSchema):
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
        scheme, _, rest = url.partition("://")
        host = rest.partition("/")[0]
        if scheme not in ("http", "https") or not host or "@" in host or any(sign.isspace() for sign in url):
            raise ValueError("should be an http or https URL without user or password, such as https://keystone.example.org:5000/v3")
        return url.rstrip("/")


class CloudRequest(RequestSchema):
    """An account in a region as one group uses it."""

    driver: Literal["openstack"] | None = Field(None, description="default openstack")
    region: ShortText | None = Field(None, description="region_name; required at creation")
    auth: AuthRequest | None = Field(None, description="required at creation; merged key by key")
    ca_certificate: Annotated[str, StringConstraints(max_length=262_144)] | None = Field(None, description="PEM; default: the system's")
    credential_expires_at: Moment = Field(None, description="ISO 8601; no workers are booted shortly before it")
    enabled: bool | None = Field(None, description="false at creation; only scope cloud_admin may set it; null keeps it")
    frozen: bool | None = Field(None, description="true: boot no new workers (default false)")
    priority: Annotated[int, Field(ge=-MAX_NUMBER, le=MAX_NUMBER)] | None = Field(
        None, description="clouds with a higher priority are used first (default 0)"
    )
    max_vms: Limit | None = Field(None, description="default: limited by the quota only")
    max_cores: Limit | None = None
    max_ram_mib: Limit | None = None
    soft_max_vms: Limit | None = Field(None, description="boot no new worker once the project has this many servers, foreign ones included")
    soft_max_cores: Limit | None = None
    soft_max_ram_mib: Limit | None = None
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
        return None if text is None else checks.certificates(text)

    @field_validator("attributes")
    @classmethod
    def _not_reserved(cls, attributes: dict[str, str] | None) -> dict[str, str] | None:
        taken = sorted(key for key in attributes or {} if key.lower() in RESERVED_ATTRIBUTES or key.lower().startswith("distcloud"))
        if taken:
            raise ValueError(f"{', '.join(taken)}: reserved for the scheduler; use another name")
        return attributes


class MetadataRequest(RequestSchema):
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


class ChangeResponse(BaseModel):
    """What a PUT or DELETE changed, or would change in a dry run. Secrets are shown as ********."""

    changed: bool
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    changed_secrets: list[str] = Field([], description="dotted names of given secrets that differ from the stored ones")
