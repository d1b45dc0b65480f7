# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What to do about a service's application credential: pure functions on what Keystone lists and what the file holds.

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
# Where the region is: no part of the credential, which lives on when these change.
WHEREABOUTS = ("auth_url", "region_name", "interface", "cacert")
Document = t.Dict[str, t.Any]


@dataclass(frozen=True)
class Decision:
    """The step to take, what a person should know, and which wishes the present credential does not meet."""

    step: str
    generation: int = 0
    doomed: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    outdated: tuple[str, ...] = ()


def credential_name(mark: str, service: str, generation: int) -> str:
    return "%s-%s-%d" % (mark, service, generation)


def generation_of(name: str, mark: str, service: str) -> int:
    """The generation in a credential's name; 0 for names of another form."""
    found = re.match(r"^%s-%s-([0-9]+)$" % (re.escape(mark), re.escape(service)), name)
    return int(found.group(1)) if found else 0


def own_credentials(listed: t.Iterable[Document], mark: str, service: str) -> list[Document]:
    """Those of a user's application credentials that are ours for one service, oldest first."""
    ours = [entry for entry in listed if is_ours(entry.get("description"), mark) and generation_of(entry["name"], mark, service)]
    return sorted(ours, key=lambda entry: generation_of(entry["name"], mark, service))


def moment(text: t.Optional[str]) -> t.Optional[datetime.datetime]:
    """A time as Keystone or the file writes it, in UTC; None for never."""
    if not text:
        return None
    plain = re.sub(r"(\.[0-9]+)?(Z|\+00:00)?$", "", str(text).replace(" ", "T"))
    return datetime.datetime.strptime(plain, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=datetime.timezone.utc)


def expiry(now: datetime.datetime, days: int) -> t.Optional[str]:
    """The end of a credential that shall live so many days, at midnight, so that a check and the run after it agree; None for 0, never."""
    if not days:
        return None
    return (now + datetime.timedelta(days=days)).strftime("%Y-%m-%dT00:00:00Z")


def shown(document: Document, own: t.Iterable[Document], path: str) -> Document:
    """What a person may see of a credential that is kept at ``path``, with the names of our older ones."""
    state = {key: document.get(key) for key in ("service", "name", "expires_at", "with_access_rules", "roles")}
    current = document.get("application_credential_id")
    if current:
        state["id"] = current
    older = [entry["name"] for entry in own if entry["id"] != current and entry["name"] != document.get("name")]
    return dict(state, path=path, superseded=older)


def rule_forms(rules: t.Optional[t.Iterable[Document]]) -> list[tuple[str, str, str]]:
    """Access rules in one form and order."""
    return sorted((str(rule["service"]), str(rule["method"]).upper(), str(rule["path"])) for rule in rules or [])


def outdated_fields(stored: Document, wish: Document) -> tuple[str, ...]:
    """Which wishes the credential in the file was not made for."""
    fields = []
    if wish.get("roles") and sorted(wish["roles"]) != sorted(stored.get("roles") or []):
        fields.append("roles")
    if rule_forms(wish.get("access_rules")) != rule_forms(stored.get("access_rules_wished")):
        fields.append("access_rules")
    if wish.get("project_id") and stored.get("project_id") not in (None, wish["project_id"]):
        fields.append("project")
    return tuple(fields)


def whereabouts(client: t.Any, interface: str) -> Document:
    """How an account finds its region; without a client it does not know."""
    here = {field: getattr(client, field, None) for field in WHEREABOUTS}
    return dict(here, interface=interface)


def follow(before: t.Optional[Document], stored: t.Optional[Document], here: Document, warnings: tuple[str, ...] = ()) -> Plan:
    """What to do about a credential that stays: its file follows the region where that is found elsewhere by now."""
    fields = tuple(field for field in WHEREABOUTS if stored is not None and stored.get(field) != here[field])
    if before is None or stored is None or not fields:
        return Plan(NONE, before=before, after=before, warnings=warnings)
    was, now = ({field: source.get(field) for field in fields} for source in (stored, here))
    return Plan(UPDATE, before=dict(before, **was), after=dict(before, **now), fields=fields, warnings=warnings)


def decide(
    state: str,
    service: str,
    own: list[Document],
    stored: t.Optional[Document],
    pending: t.Optional[Document],
    wish: Document,
    now: datetime.datetime,
) -> Decision:
    """What to do, given our credentials in Keystone (`own`), the file (`stored`) and a creation that was cut short (`pending`)."""
    mark = wish["mark"]
    ids = [entry["id"] for entry in own]
    current = (stored or {}).get("application_credential_id")
    latest = max([generation_of(entry["name"], mark, service) for entry in own] + [int((stored or {}).get("generation") or 0)])
    if state == ABSENT:
        return Decision(REMOVE if own or stored or pending else NOTHING, doomed=tuple(ids))
    if pending:
        return Decision(RESUME, generation=int(pending["generation"]), doomed=tuple(ids))
    if state == PRUNED:
        if own and current not in ids:
            raise lost(service, wish["path"], own)
        old = tuple(entry for entry in ids if entry != current)
        return Decision(PRUNE if old or (stored or {}).get("previous") else NOTHING, doomed=old)
    if state == ROTATED:
        unfinished = bool((stored or {}).get("previous")) and current in ids
        if unfinished:
            note = (
                "the rotation of %s begun earlier is not finished: its new credential is handed over now, then the old one removed"
                % service
            )
            return Decision(NOTHING, warnings=(note,))
        return Decision(MAKE, generation=latest + 1, doomed=tuple(ids))
    if stored is None:
        if own:
            raise lost(service, wish["path"], own)
        return Decision(MAKE, generation=latest + 1)
    if current not in ids:
        note = "the application credential %s is no longer in Keystone, so a new one is made" % stored.get("name", current)
        return Decision(MAKE, generation=latest + 1, warnings=(note,))
    return Decision(NOTHING, warnings=health(service, stored, wish, now), outdated=outdated_fields(stored, wish))


def lost(service: str, path: str, own: list[Document]) -> Failure:
    return Failure(
        "Keystone has %s for %s, but the file %s with its secret is not there, and a secret is told only once. "
        "Bring the file back from a backup, or make a new one by the playbook rotate_credentials"
        % (", ".join(str(entry["name"]) for entry in own), service, path),
        "keystone",
        "lost",
        {"path": path, "names": [entry["name"] for entry in own]},
    )


def health(service: str, stored: Document, wish: Document, now: datetime.datetime) -> tuple[str, ...]:
    """What a person should know about a credential that is there; an expired one is a failure, since nothing works with it."""
    notes = []
    end = moment(stored.get("expires_at"))
    if end is not None and end <= now:
        raise Failure(
            "the credential %s expired on %s; make a new one by the playbook rotate_credentials" % (stored["name"], stored["expires_at"]),
            "keystone",
            "expired",
            {"expires_at": stored["expires_at"]},
        )
    if end is not None and end - now < datetime.timedelta(days=wish["renew_before"]):
        notes.append(
            "the credential %s expires on %s; renew it by the playbook rotate_credentials" % (stored["name"], stored["expires_at"])
        )
    fields = outdated_fields(stored, wish)
    if fields:
        notes.append(
            "the credential %s for %s was made with other %s than are wished now; it is kept until the playbook rotate_credentials runs"
            % (stored["name"], service, " and ".join(fields))
        )
    return tuple(notes)


def probes(rules: t.Iterable[Document]) -> dict[str, str]:
    """For each service one reading call that the rules allow, to find out whether the region honours them; service to path."""
    found: dict[str, str] = {}
    for rule in rules:
        if str(rule["method"]).upper() == "GET" and "*" not in rule["path"]:
            found.setdefault(rule["service"], rule["path"])
    return found
