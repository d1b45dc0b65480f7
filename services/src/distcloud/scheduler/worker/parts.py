"""Metadata parts: which of them a worker gets, their check when they are stored, and their text for one worker.

Group admins write them. `renderer` runs what is here in a bounded process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from .cloud_config import InvalidCloudConfig, check_cloud_config
from .configuration import WorkerSettings
from .templating import InvalidTemplate, render_template

MAX_PART_BYTES: Final = 65_536

_TYPES: Final[Mapping[str, str]] = {
    "cloud-config": "text/cloud-config",
    "cloud-boothook": "text/cloud-boothook",
    "shell-script": "text/x-shellscript",
    "x-shellscript": "text/x-shellscript",
    "include": "text/x-include-url",
}


class UserDataError(ValueError):
    """User data cannot be rendered; the message names the part (or the group and cloud) and what to change.

    `detail` may quote the content of a part: it is for the log, while the message is shown to everyone who may read the group's VMs.
    """

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


@dataclass(frozen=True, slots=True)
class MetadataPart:
    """A metadata part of the catalog. `scope` is "group" or "cloud"; lower `priority` comes first."""

    name: str
    content: str
    mime_type: str = "cloud-config"
    priority: int = 0
    scope: str = "group"
    enabled: bool = True
    excluded_clouds: tuple[str, ...] = ()

    @property
    def media_type(self) -> str:
        # A worker boots once, and does not run cloud-init's per-boot, per-instance or per-once scripts: run them as plain scripts.
        if self.mime_type.startswith("text/x-shellscript-per-"):
            return "text/x-shellscript"
        return _TYPES.get(self.mime_type, self.mime_type)

    @property
    def label(self) -> str:
        return f"metadata {self.name} of the {self.scope}"


@dataclass(frozen=True, slots=True)
class RenderedPart:
    """The text of a part for one worker."""

    name: str
    media_type: str
    text: str


_ANY_WORKER: Final = WorkerSettings(host="vm-sample", domain="example.org", condor_host="central.example.org", group="group", alias="alias")


def select_parts(parts: Sequence[MetadataPart], cloud: str) -> list[MetadataPart]:
    """The enabled parts for one cloud, ordered by priority, then group before cloud, then name."""
    usable = (part for part in parts if part.enabled and cloud not in part.excluded_clouds)
    return sorted(usable, key=lambda part: (part.priority, part.scope != "group", part.name))


def template_variables(worker: WorkerSettings) -> dict[str, str]:
    """The variables of templates, under the names known from Cloud Scheduler.

    Its cs_condor_submitters, the users who may submit for the group, is left out: here only the queue knows and enforces that.
    """
    return {
        "cs_user": worker.scheduler.split("@")[0],
        "cs_host": worker.condor_host,
        "cs_host_id": worker.ledger_id,
        "cs_group_name": worker.group,
        "cs_cloud_name": worker.cloud,
        "cs_cloud_type": worker.cloud_type,
        "cs_cloud_alias": worker.alias or "",
        "cs_flavor": worker.flavor,
        "cs_condor_host": worker.condor_host,
    }


def render_part(part: MetadataPart, values: Mapping[str, str]) -> RenderedPart:
    """The part for a worker with these variables. Raises only UserDataError."""
    try:
        return _render(part, values, unique_keys=False)
    except UserDataError as error:
        cause = error.__cause__.__cause__ if error.__cause__ is not None else None
        if cause is None:
            raise  # a limit, whose message quotes nothing
        what = "its template" if isinstance(error.__cause__, InvalidTemplate) else "its YAML"
        public = f"{part.label}: {what} fails for this worker ({type(cause).__name__}); the scheduler's log has the details"
        raise UserDataError(public, str(error)) from error


def check_part(content: str, mime_type: str) -> str:
    """What is wrong with a part that is about to be stored, or an empty string; never raises. No key may be given twice."""
    if "x-shellscript" in mime_type and not content.startswith("#!"):
        return "should begin with an interpreter line such as #!/bin/sh"
    part = MetadataPart("part", content, mime_type)
    try:
        _render(part, template_variables(_ANY_WORKER), unique_keys=True)
    except UserDataError as error:
        return str(error).removeprefix(part.label).removeprefix(": ").strip()
    return ""


def oversize(content: str) -> str:
    """Why the content is too long to be stored, or an empty string."""
    size = len(content.encode("utf-8", "replace"))
    return f"is {size} bytes long; the maximum is {MAX_PART_BYTES}" if size > MAX_PART_BYTES else ""


def _render(part: MetadataPart, values: Mapping[str, str], *, unique_keys: bool) -> RenderedPart:
    if "/" not in part.media_type:
        known = ", ".join(sorted(_TYPES))
        raise UserDataError(f"{part.label}: mime_type {part.mime_type!r} is neither one of {known} nor a media type")
    heading = part.media_type + part.name
    if not heading.isascii() or not heading.isprintable() or '"' in heading:
        raise UserDataError(f"{part.label}: its name and mime_type must be plain ASCII without quotes and line breaks")
    try:
        text = render_template(part.content, values)
        if part.media_type == "text/cloud-config":
            check_cloud_config(text, unique_keys=unique_keys)
    except InvalidTemplate as problem:
        raise UserDataError(f"{part.label}: {problem}") from problem
    except InvalidCloudConfig as problem:
        raise UserDataError(f"{part.label} {problem}") from problem
    return RenderedPart(part.name, part.media_type, text)
