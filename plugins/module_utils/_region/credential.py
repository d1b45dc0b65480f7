# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decisions about a service's application credential: pure functions of Keystone's list and the stored file.

Private to the collection: no promise is made to users outside of it.
"""

from __future__ import annotations

import datetime
import re
import typing as t
from dataclasses import dataclass

from .._core.module import Failure
from .._core.reconcile import NONE, UPDATE, Plan
from .rules import is_ours

PRESENT, ROTATED, PRUNED, ABSENT = "present", "rotated", "pruned", "absent"
NOTHING, MAKE, RESUME, PRUNE, REMOVE = "nothing", "make", "resume", "prune", "remove"
# Where the region is. Not part of the credential, which stays valid when these change.
LOCATION_FIELDS = ("auth_url", "region_name", "interface", "cacert")
Document = dict[str, t.Any]


@dataclass(frozen=True)
class Decision:
    """The step to take, warnings, and the fields in which the current credential differs from the spec."""

    step: str
    generation: int = 0
    to_remove: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    outdated: tuple[str, ...] = ()


def credential_name(tag: str, service: str, generation: int) -> str:
    return f"{tag}-{service}-{generation}"


def generation_of(name: str, tag: str, service: str) -> int:
    """The generation in a credential's name; 0 for names of another form."""
    found = re.match(rf"^{re.escape(tag)}-{re.escape(service)}-([0-9]+)$", name)
    return int(found.group(1)) if found else 0


def own_credentials(listed: t.Iterable[Document], tag: str, service: str) -> list[Document]:
    """Those of a user's application credentials that are ours for one service, oldest first."""
    ours = [entry for entry in listed if is_ours(entry.get("description"), tag) and generation_of(entry["name"], tag, service)]
    return sorted(ours, key=lambda entry: generation_of(entry["name"], tag, service))


def parse_time(text: str | None) -> datetime.datetime | None:
    """A time of Keystone or the file, in UTC; None for never."""
    if not text:
        return None
    plain = re.sub(r"(\.[0-9]+)?(Z|\+00:00)?$", "", str(text).replace(" ", "T"))
    return datetime.datetime.strptime(plain, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=datetime.timezone.utc)


def expiry(now: datetime.datetime, days: int) -> str | None:
    """The expiry of a credential valid for so many days, at midnight, so that check mode and the run after it agree; None for 0, never."""
    if not days:
        return None
    return (now + datetime.timedelta(days=days)).strftime("%Y-%m-%dT00:00:00Z")


def shown(document: Document, own: t.Iterable[Document], path: str) -> Document:
    """The public fields of the credential stored at ``path``, with the names of our older ones."""
    state = {key: document.get(key) for key in ("service", "name", "expires_at", "with_access_rules", "roles")}
    current = document.get("application_credential_id")
    if current:
        state["id"] = current
    older = [entry["name"] for entry in own if entry["id"] != current and entry["name"] != document.get("name")]
    return dict(state, path=path, superseded=older)


def normalized_rules(rules: t.Iterable[Document] | None) -> list[tuple[str, str, str]]:
    """Access rules in one form and order."""
    return sorted((str(rule["service"]), str(rule["method"]).upper(), str(rule["path"])) for rule in rules or [])


def outdated_fields(stored: Document, spec: Document) -> tuple[str, ...]:
    """Fields of the spec that the stored credential does not match."""
    fields = []
    if spec.get("roles") and sorted(spec["roles"]) != sorted(stored.get("roles") or []):
        fields.append("roles")
    if normalized_rules(spec.get("access_rules")) != normalized_rules(stored.get("access_rules_requested")):
        fields.append("access_rules")
    if spec.get("project_id") and stored.get("project_id") not in (None, spec["project_id"]):
        fields.append("project")
    return tuple(fields)


def location_of(client: t.Any, interface: str) -> Document:
    """Where the account's region is; without a client all fields are None."""
    here = {field: getattr(client, field, None) for field in LOCATION_FIELDS}
    return dict(here, interface=interface)


def plan_location_update(before: Document | None, stored: Document | None, here: Document, warnings: tuple[str, ...] = ()) -> Plan:
    """The plan for a credential that stays: its file is updated if the region's address has changed."""
    fields = tuple(field for field in LOCATION_FIELDS if stored is not None and stored.get(field) != here[field])
    if before is None or stored is None or not fields:
        return Plan(NONE, before=before, after=before, warnings=warnings)
    was, now = ({field: source.get(field) for field in fields} for source in (stored, here))
    return Plan(UPDATE, before=dict(before, **was), after=dict(before, **now), fields=fields, warnings=warnings)


def decide(
    state: str,
    service: str,
    own: list[Document],
    stored: Document | None,
    pending: Document | None,
    spec: Document,
    now: datetime.datetime,
) -> Decision:
    """What to do, given our credentials in Keystone (`own`), the file (`stored`) and an interrupted creation (`pending`)."""
    tag = spec["ownership_tag"]
    ids = [entry["id"] for entry in own]
    current = (stored or {}).get("application_credential_id")
    latest = max([generation_of(entry["name"], tag, service) for entry in own] + [int((stored or {}).get("generation") or 0)])
    if state == ABSENT:
        return Decision(REMOVE if own or stored or pending else NOTHING, to_remove=tuple(ids))
    if pending:
        return Decision(RESUME, generation=int(pending["generation"]), to_remove=tuple(ids))
    if state == PRUNED:
        if own and current not in ids:
            raise lost_secret(service, spec["path"], own)
        old = tuple(entry for entry in ids if entry != current)
        return Decision(PRUNE if old or (stored or {}).get("previous") else NOTHING, to_remove=old)
    if state == ROTATED:
        unfinished = bool((stored or {}).get("previous")) and current in ids
        if unfinished:
            note = f"the earlier rotation of {service} is not finished: its new credential is handed over now, then the old one is removed"
            return Decision(NOTHING, warnings=(note,))
        return Decision(MAKE, generation=latest + 1, to_remove=tuple(ids))
    if stored is None:
        if own:
            raise lost_secret(service, spec["path"], own)
        return Decision(MAKE, generation=latest + 1)
    if current not in ids:
        note = f"the application credential {stored.get('name', current)} is no longer in Keystone, so a new one is created"
        return Decision(MAKE, generation=latest + 1, warnings=(note,))
    return Decision(NOTHING, warnings=health(service, stored, spec, now), outdated=outdated_fields(stored, spec))


def lost_secret(service: str, path: str, own: list[Document]) -> Failure:
    return Failure(
        f"Keystone has {', '.join(str(entry['name']) for entry in own)} for {service}, but the file {path} with its "
        "secret is missing, and Keystone returns a secret only once. Restore the file from a backup, or create a new "
        "credential by the playbook rotate_credentials",
        "keystone",
        "lost",
        {"path": path, "names": [entry["name"] for entry in own]},
    )


def health(service: str, stored: Document, spec: Document, now: datetime.datetime) -> tuple[str, ...]:
    """Warnings about the current credential; an expired one is a failure, since nothing works with it."""
    notes = []
    end = parse_time(stored.get("expires_at"))
    if end is not None and end <= now:
        raise Failure(
            (f"the credential {stored['name']} expired on {stored['expires_at']}; create a new one by the playbook rotate_credentials"),
            "keystone",
            "expired",
            {"expires_at": stored["expires_at"]},
        )
    if end is not None and end - now < datetime.timedelta(days=spec["renew_before"]):
        notes.append(f"the credential {stored['name']} expires on {stored['expires_at']}; renew it by the playbook rotate_credentials")
    fields = outdated_fields(stored, spec)
    if fields:
        notes.append(
            f"the credential {stored['name']} for {service} was created with other {' and '.join(fields)} than now configured; "
            "it is kept until the playbook rotate_credentials runs"
        )
    return tuple(notes)


def probes(rules: t.Iterable[Document]) -> dict[str, str]:
    """For each service one GET that the rules allow, to find out whether the region supports them; service to path."""
    found: dict[str, str] = {}
    for rule in rules:
        if str(rule["method"]).upper() == "GET" and "*" not in rule["path"]:
            found.setdefault(rule["service"], rule["path"])
    return found
