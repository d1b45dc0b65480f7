"""User data of a worker: cloud-init multipart from our own parts and the metadata parts of its group and cloud.

Our first part writes the configuration and the credentials, our last one starts HTCondor, so that everything the group adds
is in place before the first job.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from .configuration import SettingsError, WorkerSettings, configuration
from .templating import InvalidTemplate, render_template

NOVA_LIMIT: Final = 65535  # characters of base64 that the Compute API accepts as user_data
TOKEN_FILE: Final = "/etc/condor/tokens.d/worker"  # noqa: S105  a path
KEY_DIRECTORY: Final = "/etc/condor/passwords.d"

_MAX_VALUES: Final = 100_000
# Lists (write_files, runcmd ...) of all parts are concatenated; of scalar values the first one, ours, takes precedence.
_MERGE: Final = "list(append)+dict(no_replace,recurse_array)+str()"
_TYPES: Final[Mapping[str, str]] = {
    "cloud-config": "text/cloud-config",
    "cloud-boothook": "text/cloud-boothook",
    "shell-script": "text/x-shellscript",
    "x-shellscript": "text/x-shellscript",
    "include": "text/x-include-url",
}


class UserDataError(ValueError):
    """User data cannot be rendered; the message names the part (or the group and cloud) and what to change."""


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


def render(
    worker: WorkerSettings,
    parts: Sequence[MetadataPart] = (),
    *,
    token: str,
    drain_key: str | bytes,
    compress: bool = True,
) -> bytes:
    """The user data before base64 encoding; the same input gives the same bytes. Raises UserDataError."""
    try:
        first = base_part(worker, token, drain_key)
    except SettingsError as problem:
        raise UserDataError(f"worker {worker.host} of group {worker.group} on cloud {worker.cloud}: {problem}") from problem
    values = template_variables(worker)
    chosen = [(part, _render_part(part, values)) for part in select_parts(parts, worker.cloud)]
    bodies = [("distcloud-base", "text/cloud-config", first)]
    bodies += [(part.name, part.media_type, text) for part, text in chosen]
    bodies.append(("distcloud-start", "text/cloud-config", last_part(worker)))
    data = _multipart(bodies)
    if compress:
        data = gzip.compress(data, compresslevel=9, mtime=0)
    _check_size(data, worker, bodies)
    return data


def select_parts(parts: Sequence[MetadataPart], cloud: str) -> list[MetadataPart]:
    """The enabled parts for one cloud, ordered by priority, then group before cloud, then name."""
    usable = (part for part in parts if part.enabled and cloud not in part.excluded_clouds)
    return sorted(usable, key=lambda part: (part.priority, part.scope != "group", part.name))


def validate_part(part: MetadataPart) -> None:
    """Reject a part that no worker could use; called when it is stored, not when a VM needs it. Raises UserDataError."""
    sample = WorkerSettings(host="vm-sample", domain="example.org", condor_host="central.example.org", group="group", alias="alias")
    _render_part(part, template_variables(sample))


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


def base_part(worker: WorkerSettings, token: str, drain_key: str | bytes) -> str:
    """Our first part: host names, configuration, and credentials readable by root only."""
    key = drain_key.encode() if isinstance(drain_key, str) else drain_key
    hosts = f"127.0.1.1 {worker.fqdn} {worker.host}\n"
    if worker.central_address:
        hosts += f"{worker.central_address} {worker.condor_host} {worker.condor_host.split('.')[0]}\n"
    files: list[dict[str, Any]] = [
        {"path": path, "owner": "root:root", "permissions": "0644", "content": text} for path, text in configuration(worker).items()
    ]
    files.append({"path": TOKEN_FILE, "owner": "root:root", "permissions": "0600", "content": token.strip() + "\n"})
    # Base64, because a key is binary: every byte of the file counts, a trailing newline included.
    encoded = base64.b64encode(key).decode()
    files.append(
        {
            "path": f"{KEY_DIRECTORY}/{worker.ledger_id}",
            "owner": "root:root",
            "permissions": "0600",
            "encoding": "b64",
            "content": encoded,
        }
    )
    # An unresolvable name makes every daemon hang for 20 s.
    files.append({"path": "/etc/hosts", "append": True, "content": hosts})
    return _cloud_config(
        {
            "hostname": worker.host,
            "fqdn": worker.fqdn,
            "prefer_fqdn_over_hostname": False,
            "preserve_hostname": False,
            "manage_etc_hosts": False,
            "write_files": files,
        }
    )


def last_part(worker: WorkerSettings) -> str:
    """Our last part: create the slot users that the image lacks, then start HTCondor without waiting for it."""
    more = [
        ["useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", f"slotu{number}"]
        for number in range(9, worker.users + 1)
    ]
    return _cloud_config({"runcmd": [*more, ["systemctl", "daemon-reload"], ["systemctl", "start", "--no-block", "condor"]]})


def _cloud_config(content: Mapping[str, Any]) -> str:
    return "#cloud-config\n" + json.dumps(content, indent=1) + "\n"


def _render_part(part: MetadataPart, values: Mapping[str, str]) -> str:
    where = f"metadata {part.name} of the {part.scope}"
    if "/" not in part.media_type:
        raise UserDataError(f"{where}: mime_type {part.mime_type!r} is neither one of {', '.join(sorted(_TYPES))} nor a media type")
    heading = part.media_type + part.name
    if not heading.isascii() or not heading.isprintable() or '"' in heading:
        raise UserDataError(f"{where}: its name and mime_type must be plain ASCII without quotes and line breaks")
    try:
        text = render_template(part.content, values)
    except InvalidTemplate as problem:
        raise UserDataError(f"{where}: {problem}") from problem
    if part.media_type == "text/cloud-config":
        _check_cloud_config(where, text)
    return text


def _check_cloud_config(where: str, text: str) -> None:
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if _expanded_size(root, {}) > _MAX_VALUES:
            raise UserDataError(f"{where} holds more than {_MAX_VALUES} values once its aliases (*name) are expanded")
        content = None if root is None else loader.construct_document(root)
    except yaml.YAMLError as problem:
        raise UserDataError(f"{where} is not valid YAML after template expansion: {' '.join(str(problem).split())}") from problem
    finally:
        loader.dispose()
    if content is not None and not isinstance(content, dict):
        raise UserDataError(f"{where} must be a mapping of cloud-config keys, but is a {type(content).__name__}")


def _expanded_size(node: yaml.Node | None, known: dict[int, int]) -> int:
    """Number of values in a document once its aliases are expanded: a few lines of nested aliases can make billions."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = 0  # in case the node contains itself
        inner = [item for entry in node.value for item in (entry if isinstance(entry, tuple) else (entry,))]
        known[id(node)] = 1 + sum(_expanded_size(item, known) for item in inner)
    return known[id(node)]


def _multipart(bodies: Sequence[tuple[str, str, str]]) -> bytes:
    digest = hashlib.sha256("\0".join(text for _, _, text in bodies).encode()).hexdigest()
    boundary = f"==distcloud-{digest[:32]}=="  # derived from the content, so no part can contain it on purpose
    lines = ["MIME-Version: 1.0", f'Content-Type: multipart/mixed; boundary="{boundary}"', ""]
    # cloud-init stores scripts under these names in one folder and runs them sorted by name, among them `runcmd`, which starts
    # HTCondor. The number in front preserves the order, puts all of them before `runcmd`, and makes the names unique.
    digits = len(str(len(bodies)))
    for number, (name, media_type, text) in enumerate(bodies):
        encoding, body = _encoded(text.removesuffix("\n"))
        lines += [
            f"--{boundary}",
            f'Content-Type: {media_type}; charset="utf-8"',
            f"Content-Transfer-Encoding: {encoding}",
            f'Content-Disposition: attachment; filename="{number:0{digits}}-{name}"',
            *([f"Merge-Type: {_MERGE}"] if media_type == "text/cloud-config" else []),
            "",
            body,
        ]
    return "\n".join([*lines, f"--{boundary}--", ""]).encode()


def _encoded(text: str) -> tuple[str, str]:
    """Transfer encoding and body: plain if possible, which compresses best; cloud-init garbles non-ASCII text unless it is base64."""
    if text.isascii():
        return "7bit", text
    return "base64", base64.encodebytes(text.encode()).decode().rstrip("\n")


def _check_size(data: bytes, worker: WorkerSettings, bodies: Sequence[tuple[str, str, str]]) -> None:
    size = 4 * ((len(data) + 2) // 3)
    if size <= NOVA_LIMIT:
        return
    largest = sorted(((len(text.encode()), name) for name, _, text in bodies), reverse=True)[:3]
    raise UserDataError(
        f"user data for group {worker.group} on cloud {worker.cloud} is {size} characters in base64, the Compute API accepts {NOVA_LIMIT}; "
        f"largest parts: {', '.join(f'{name} ({count} bytes)' for count, name in largest)}; shorten or disable one, or fetch it at boot"
    )
