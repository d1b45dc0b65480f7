"""What people may wish of groups, clouds and metadata: the schema of the API's bodies.

Every field may be left out (then it stays as it is, or takes its default at creation) or be null (then it returns to its default).
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
        raise ValueError("should not hold a NUL character")
    return text


Text = Annotated[str, AfterValidator(_without_nul)]
ShortText = Annotated[Text, StringConstraints(min_length=1, max_length=255)]
Name = Annotated[str, StringConstraints(pattern=NAME)]
Secret = Annotated[Text, StringConstraints(min_length=1, max_length=4096)]
Limit = Annotated[int, Field(ge=0, le=MAX_NUMBER)]
Moment = Annotated[float | None, BeforeValidator(checks.moment)]


class RequestSchema(BaseModel):
    """Base of all bodies: exact types, no unknown fields."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    def explicit_fields(self) -> dict[str, Any]:
        """Only the fields that were given; a null stays a null."""
        return self.model_dump(exclude_unset=True)


class GroupRequest(RequestSchema):
    """A tenant: whose jobs are served, and with which defaults."""

    keep_alive: Annotated[int, Field(ge=0, le=2_592_000)] | None = Field(None, description="seconds an idle worker is kept (default 300)")
    default_flavor: ShortText | None = Field(None, description="for jobs that name none; default: the smallest that fits")
    default_image: ShortText | None = Field(None, description="for jobs that name none")
    aliases: Annotated[dict[Name, Annotated[list[Name], Field(max_length=200)]], Field(max_length=100)] | None = Field(
        None, description="alias to names of clouds; replaced as a whole"
    )


class AuthRequest(RequestSchema):
    """An account, with the keys of clouds.yaml: an application credential, or a user with a project."""

    auth_url: ShortText | None = Field(None, description="Keystone's URL, ending in /v3")
    interface: Literal["public", "internal", "admin"] | None = Field(None, description="which endpoints are used (default public)")
    application_credential_id: ShortText | None = None
    application_credential_secret: Secret | None = Field(None, description="never shown again")
    username: ShortText | None = None
    password: Secret | None = Field(None, description="never shown again")
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
    credential_expires_at: Moment = Field(None, description="ISO 8601; workers are not booted when it is near")
    enabled: bool | None = Field(None, description="false at creation; only scope cloud_admin sets it; null leaves it")
    frozen: bool | None = Field(None, description="no new workers for the time being (default false)")
    priority: Annotated[int, Field(ge=-MAX_NUMBER, le=MAX_NUMBER)] | None = Field(None, description="higher goes first (default 0)")
    max_vms: Limit | None = Field(None, description="default: no bound but the quota")
    max_cores: Limit | None = None
    max_ram_mib: Limit | None = None
    soft_max_vms: Limit | None = Field(None, description="no new worker once all servers of the project, foreign ones too, are that many")
    soft_max_cores: Limit | None = None
    soft_max_ram_mib: Limit | None = None
    default_flavor: ShortText | None = None
    default_image: ShortText | None = None
    flavor_exclusions: Annotated[list[ShortText], Field(max_length=200)] | None = Field(None, description="names of flavors never used")
    network: ShortText | None = Field(None, description="name or id; default: the only one")
    security_groups: Annotated[list[ShortText], Field(max_length=50)] | None = None
    keypair: ShortText | None = None
    attributes: (
        Annotated[
            dict[Annotated[str, StringConstraints(pattern=ATTRIBUTE)], Annotated[Text, StringConstraints(max_length=1024)]],
            Field(max_length=50),
        ]
        | None
    ) = Field(None, description="further attributes of its workers' slots; replaced as a whole")

    @field_validator("ca_certificate")
    @classmethod
    def _valid_pem(cls, text: str | None) -> str | None:
        return None if text is None else checks.certificates(text)

    @field_validator("attributes")
    @classmethod
    def _not_reserved(cls, attributes: dict[str, str] | None) -> dict[str, str] | None:
        taken = sorted(key for key in attributes or {} if key.lower() in RESERVED_ATTRIBUTES or key.lower().startswith("distcloud"))
        if taken:
            raise ValueError(f"{', '.join(taken)}: set by the scheduler itself; use another name")
        return attributes


class MetadataRequest(RequestSchema):
    """A cloud-init part of a group, or of one of its clouds."""

    content: Text | None = Field(None, description="a template with variables and if; required at creation")
    mime_type: Annotated[str, AfterValidator(checks.mime_type)] | None = Field(None, description="cloud-init's type (default cloud-config)")
    priority: Annotated[int, Field(ge=-MAX_NUMBER, le=MAX_NUMBER)] | None = Field(None, description="lower comes first (default 0)")
    enabled: bool | None = Field(None, description="default true")
    excluded_clouds: Annotated[list[Name], Field(max_length=200)] | None = Field(None, description="clouds whose workers do not get it")


class ChangeResponse(BaseModel):
    """What a PUT or DELETE did, or in a dry run would do. Secrets show as ********."""

    changed: bool
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    changed_secrets: list[str] = Field([], description="given secrets that differ from the stored ones, dotted")
