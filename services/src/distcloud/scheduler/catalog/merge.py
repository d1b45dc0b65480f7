"""Merge a partial update into a stored cloud or metadata part: pure functions from state and patch to the resulting state or an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...common.http.problems import FieldError
from ...common.http.resources import changed_secrets, mask_secrets, merge_patch, reject
from ...common.logs import MASK
from ...common.times import timestamp
from .schemas import AuthResponse

SECRETS = ("application_credential_secret", "password")
APPLICATION_CREDENTIAL = "v3applicationcredential"
PASSWORD = "v3password"  # noqa: S105  the name of a method
METHOD_KEYS = {
    APPLICATION_CREDENTIAL: ("application_credential_id", "application_credential_secret"),
    PASSWORD: ("username", "password", "user_domain_name", "project_name", "project_id", "project_domain_name"),
}
SECRET_OF = {APPLICATION_CREDENTIAL: "application_credential_secret", PASSWORD: "password"}

GROUP_DEFAULTS: Mapping[str, Any] = {"keep_alive": 300, "default_flavor": None, "default_image": None, "aliases": {}}
CLOUD_DEFAULTS: Mapping[str, Any] = {
    "driver": "openstack",
    "ca_certificate": None,
    "credential_expires_at": None,
    "enabled": False,
    "frozen": False,
    "priority": 0,
    "max_vms": None,
    "max_cores": None,
    "max_ram_mib": None,
    "soft_max_vms": None,
    "soft_max_cores": None,
    "soft_max_ram_mib": None,
    "default_flavor": None,
    "default_image": None,
    "flavor_exclusions": [],
    "network": None,
    "security_groups": [],
    "keypair": None,
    "attributes": {},
}
METADATA_DEFAULTS: Mapping[str, Any] = {"mime_type": "cloud-config", "priority": 0, "enabled": True, "excluded_clouds": []}


@dataclass(frozen=True, slots=True)
class MergedCloud:
    """A cloud's state after the patch: `state["auth"]` has no secrets, `secrets` are in clear text (never to be returned or logged)."""

    state: dict[str, Any]
    secrets: dict[str, str]
    changed_secrets: tuple[str, ...]


def merge_metadata(before: Mapping[str, Any] | None, patch: Mapping[str, Any]) -> dict[str, Any]:
    """A metadata part's state after a patch. Its content is not checked here."""
    return merge_patch(before, patch, METADATA_DEFAULTS, ("content",))


def merge_cloud(before: Mapping[str, Any] | None, stored: Mapping[str, str], patch: Mapping[str, Any]) -> MergedCloud:
    """A cloud's state after a patch; `stored` are its current secrets."""
    fields = {key: value for key, value in patch.items() if key != "auth" and not (key == "enabled" and value is None)}
    after = merge_patch({**before} if before is not None else None, fields, CLOUD_DEFAULTS, ("region",))
    old = dict(before["auth"]) if before is not None else {}
    if "auth" in patch and patch["auth"] is None:
        reject([FieldError("auth", "has no default to reset to; give the account")])
    if before is None and "auth" not in patch:
        reject([FieldError("auth", "is required to create it")])
    auth, secrets = _merge_auth(old, stored, patch.get("auth", {}))
    after["auth"] = auth
    given = {name: secrets.get(name) for name in SECRETS if patch.get("auth", {}).get(name) is not None}
    return MergedCloud(after, secrets, tuple(changed_secrets(given, stored, "auth.")))


def _merge_auth(old: Mapping[str, Any], stored: Mapping[str, str], patch: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The complete account and secrets after a patch. A stored secret is kept only for the account and server it was given for."""
    method = _method(old, patch)
    keys = {"auth_url", "interface", *METHOD_KEYS[method]}
    merged: dict[str, Any] = {key: value for key, value in old.items() if key in keys}
    merged.update({key: value for key, value in patch.items() if key in keys and key not in SECRETS})
    merged = {key: value for key, value in merged.items() if value is not None}
    if patch.get("project_id") is not None and "project_name" not in patch:
        merged.pop("project_name", None)
    if patch.get("project_name") is not None and "project_id" not in patch:
        merged.pop("project_id", None)
    if method == PASSWORD:
        merged.setdefault("user_domain_name", "Default")
        if "project_name" in merged:
            merged.setdefault("project_domain_name", "Default")
        else:
            merged.pop("project_domain_name", None)

    name = SECRET_OF[method]
    errors = []
    identity = ("auth_url", "application_credential_id") if method == APPLICATION_CREDENTIAL else ("auth_url", "username")
    for key in identity:
        if key not in merged:
            errors.append(FieldError(f"auth.{key}", "is required"))
    if method == PASSWORD and "project_name" not in merged and "project_id" not in merged:
        errors.append(FieldError("auth.project_name", "is required, or auth.project_id"))
    if method == PASSWORD and "project_name" in merged and "project_id" in merged:
        errors.append(FieldError("auth.project_id", "give project_name or project_id, not both"))
    secrets: dict[str, str] = {}
    if patch.get(name) is not None:
        secrets[name] = patch[name]
    elif old and any(old.get(key) != merged.get(key) for key in identity):
        changed = ", ".join(key for key in identity if old.get(key) != merged.get(key))
        errors.append(FieldError(f"auth.{name}", f"is required when {changed} changes"))
    elif name in stored and name not in patch:
        secrets[name] = stored[name]
    else:
        errors.append(FieldError(f"auth.{name}", "is required"))
    reject(errors)
    return {"auth_type": method, **merged}, secrets


def _method(old: Mapping[str, Any], patch: Mapping[str, Any]) -> str:
    """The authentication method that the patch or the stored account selects."""
    given = [method for method, keys in METHOD_KEYS.items() if any(patch.get(key) is not None for key in keys)]
    if len(given) > 1:
        reject(
            [
                FieldError(
                    "auth", "names an application credential and a user; give only one (an application credential is bound to its project)"
                )
            ]
        )
    if given:
        return given[0]
    if "auth_type" in old:
        return str(old["auth_type"])
    reject([FieldError("auth", "give application_credential_id and application_credential_secret, or username, password and project_name")])
    raise AssertionError("unreachable")


def changed_location(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> list[str]:
    """The changed fields that point the cloud at another location, which no cloud admin has enabled."""
    if before is None:
        return []
    found = [key for key in ("driver", "region") if before[key] != after[key]]
    places = ("auth_url", "project_name", "project_id", "project_domain_name")
    found += [f"auth.{key}" for key in places if before["auth"].get(key) != after["auth"].get(key)]
    return found


def changed_credential(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> list[str]:
    """The changed field that may bring a credential of another project, which is only known after login."""
    key = "application_credential_id"
    return [f"auth.{key}"] if before is not None and before["auth"].get(key) != after["auth"].get(key) else []


def redacted(state: Mapping[str, Any], secrets: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A state as clients see it: times as text, every secret that is set replaced by asterisks."""
    out = dict(state)
    if "credential_expires_at" in out:
        out["credential_expires_at"] = timestamp(out["credential_expires_at"], milliseconds=False)
    if "auth" in out:
        out["auth"] = mask_secrets(out["auth"], secrets or {})
    return out


def without_identity(auth: AuthResponse) -> AuthResponse:
    """An account with masks for its user, project and credential; the method and the address remain."""
    return auth.model_copy(update={key: MASK for keys in METHOD_KEYS.values() for key in keys if getattr(auth, key) is not None})
