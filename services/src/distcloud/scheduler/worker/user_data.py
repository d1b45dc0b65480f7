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
from typing import Any, Final

from .configuration import SettingsError, WorkerSettings, configuration
from .parts import RenderedPart, UserDataError

NOVA_LIMIT: Final = 65535  # characters of base64 that the Compute API accepts as user_data
TOKEN_FILE: Final = "/etc/condor/tokens.d/worker"  # noqa: S105  a path
KEY_DIRECTORY: Final = "/etc/condor/passwords.d"

# What user data may hold at most before compression.
_MAX_TEXT: Final = 1024 * 1024
# Lists (write_files, runcmd ...) of all parts are concatenated; of scalar values the first one, ours, takes precedence.
_MERGE: Final = "list(append)+dict(no_replace,recurse_array)+str()"


def compose(worker: WorkerSettings, parts: Sequence[RenderedPart] = (), *, token: str, drain_key: str | bytes) -> bytes:
    """The compressed user data before base64 encoding; the same input gives the same bytes. Raises UserDataError."""
    try:
        first = base_part(worker, token, drain_key)
    except SettingsError as problem:
        raise UserDataError(f"worker {worker.host} of group {worker.group} on cloud {worker.cloud}: {problem}") from problem
    bodies = [("distcloud-base", "text/cloud-config", first)]
    bodies += [(part.name, part.media_type, part.text) for part in parts]
    bodies.append(("distcloud-start", "text/cloud-config", last_part(worker)))
    size = sum(len(text) for _, _, text in bodies)
    data = gzip.compress(_multipart(bodies), compresslevel=9, mtime=0) if size <= _MAX_TEXT else b""
    _check_size(data, size, worker, bodies)
    return data


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


def _check_size(data: bytes, text_size: int, worker: WorkerSettings, bodies: Sequence[tuple[str, str, str]]) -> None:
    size = 4 * ((len(data) + 2) // 3)
    if size <= NOVA_LIMIT and text_size <= _MAX_TEXT:
        return
    largest = sorted(((len(text.encode()), name) for name, _, text in bodies), reverse=True)[:3]
    is_too_large = (
        f"is {text_size} characters long, at most {_MAX_TEXT} are compressed"
        if text_size > _MAX_TEXT
        else f"is {size} characters in base64, the Compute API accepts {NOVA_LIMIT}"
    )
    raise UserDataError(
        f"user data for group {worker.group} on cloud {worker.cloud} {is_too_large}; "
        f"largest parts: {', '.join(f'{name} ({count} bytes)' for count, name in largest)}; shorten or disable one, or fetch it at boot"
    )
