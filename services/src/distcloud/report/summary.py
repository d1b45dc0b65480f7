"""Build the summary of a site from collected facts (plain JSON): pure, no I/O.

The schema of a summary is `summary.schema.json`. Times in it are seconds since the epoch (UTC), durations are seconds.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from typing import Any
from urllib.parse import urljoin

import jsonschema
from pydantic import BaseModel, ValidationError

from ..common.http.report import Report
from ..common.times import parse_timestamp
from ..scheduler.api.schemas import StatusResponse, TotalsResponse, VmListResponse, VmResponse
from . import collected

Json = Mapping[str, Any]

# Source -> names of the commands that collect its facts.
COMMANDS = {"pool": ("machines", "queue", "jobs"), "scheduler": ("status", "vms", "gone", "totals")}
# Commands that print a response of the scheduler's API.
SCHEMAS: Mapping[str, type[BaseModel]] = {
    "status": StatusResponse,
    "vms": VmListResponse,
    "gone": VmListResponse,
    "totals": TotalsResponse,
    "report": Report,
}
_TIMEOUT_EXIT_CODE = 124  # the exit code of timeout(1)
_LATEST = 253_402_300_799  # the last second of the year 9999, the maximum of datetime


class SummaryError(ValueError):
    """The collected facts do not form a valid summary; the message names the field."""


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a summary."""
    loaded: dict[str, Any] = json.loads(resources.files(__package__).joinpath("summary.schema.json").read_text("utf-8"))
    return loaded


def check(summary: Json) -> None:
    """Raise SummaryError for a summary that does not match the schema; the message names the field."""
    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema()).iter_errors(summary))
    if error is not None:
        where = ".".join(str(step) for step in error.absolute_path) or "(top)"
        raise SummaryError(f"summary: field {where}: {error.message}")


def build(raw: Json) -> dict[str, Any]:
    """Build the summary of collected facts.

    `raw` has: site, made_at, regions [{name, auth_url, error, images}], answers [{name, host, rc, stdout, stderr, msg}] of the
    commands named in COMMANDS, engines [the same with engine, url] of `distcloud ENGINE report` and of the certificates on their
    hosts, pool {collector, schedd, domain}, addresses [{name, url, what}]. A failed command is listed as a problem of the site.
    The results of several submit nodes for the same command are merged.
    """
    try:
        collected.check(raw)
    except collected.CollectedError as error:
        raise SummaryError(str(error)) from error
    answers = _results(raw.get("answers") or ())
    facts = {name: answer.facts for name, answer in answers.items()}
    pages: list[VmListResponse] = [facts[name] for name in ("vms", "gone") if facts.get(name)]
    vms = {vm.id: _vm(vm) for page in pages for vm in page.vms}
    status: StatusResponse | None = facts.get("status")
    ever = _vms_ever(facts.get("totals"))
    engines = raw.get("engines") or ()
    reports = [(answer["engine"], answer.get("url") or "", _CommandResult.of(answer)) for answer in engines if answer["name"] == "report"]
    regions = [_region(region, status, ever) for region in raw.get("regions") or ()]
    summary = {
        "site": {"name": raw["site"], "made_at": raw["made_at"]},
        "problems": _problems(
            regions, answers, status, [*_engine_problems(reports), *_certificates([*(raw.get("answers") or ()), *engines])]
        ),
        "regions": regions,
        "images": [image for region in raw.get("regions") or () for image in _images(region)],
        "pool": _pool(raw.get("pool") or {}, facts),
        "jobs": sorted((_job(ad) for ad in facts.get("jobs") or ()), key=lambda job: _cluster_order(job["id"])),
        "vms": sorted(vms.values(), key=lambda vm: (vm["requested_at"], vm["id"])),
        "vms_now": _vms_now(facts.get("vms"), vms.values()),
        "vms_ever": None if ever is None else sum(ever.values()),
        "engines": [_engine(name, url, result.facts) for name, url, result in reports if result.facts],
        "addresses": [dict(address) for address in raw.get("addresses") or ()],
    }
    check(summary)
    return summary


@dataclass(frozen=True, slots=True)
class _CommandResult:
    """The result of a command: facts, or an error."""

    facts: Any
    error: str

    @classmethod
    def of(cls, answer: Json) -> _CommandResult:
        if answer.get("rc") == 0:
            text = answer.get("stdout") or ""
            try:
                # HTCondor prints nothing at all for an empty result.
                facts = json.loads(text) if text.strip() else []
            except ValueError:
                return cls(None, f"not JSON: {_one_line(text)}")
            return cls._checked(facts, SCHEMAS.get(answer["name"]))
        if answer.get("rc") == _TIMEOUT_EXIT_CODE:
            return cls(None, "no answer in time")
        return cls(None, _one_line(answer.get("stderr") or answer.get("msg") or answer.get("stdout") or "no answer"))

    @classmethod
    def _checked(cls, facts: Any, model: type[BaseModel] | None) -> _CommandResult:
        if model is None:
            return cls(facts, "")
        try:
            return cls(model.model_validate(facts), "")
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(step) for step in first["loc"]) or "(top)"
            return cls(None, f"unexpected output, field {where}: {first['msg']}; is the command of another version?")


def _results(given: Iterable[Json]) -> dict[str, _CommandResult]:
    """The result of each command. If one of several hosts did not answer, the result is unknown: a partial sum would be wrong."""
    asked: dict[str, list[Json]] = {}
    for answer in given:
        asked.setdefault(answer["name"], []).append(answer)
    return {name: _merged(some) if len(some) > 1 else _CommandResult.of(some[0]) for name, some in asked.items()}


def _merged(given: Iterable[Json]) -> _CommandResult:
    answers = [(answer.get("host") or "", _CommandResult.of(answer)) for answer in given]
    if errors := [f"{host}: {answer.error}" for host, answer in answers if answer.error]:
        return _CommandResult(None, "; ".join(errors))
    return _CommandResult([ad for _, answer in answers for ad in answer.facts], "")


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 300 else line[:299] + "\N{HORIZONTAL ELLIPSIS}"


def _certificates(given: Iterable[Json]) -> Iterable[tuple[str, str, str]]:
    """The problems with certificates, per host: a host that does not answer does not hide the certificates of others."""
    for entry in (answer for answer in given if answer["name"] == "certificates"):
        answer = _CommandResult.of(entry)
        # An unreachable host is already reported by its other commands.
        if answer.error and entry.get("rc") is not None:
            yield "certificate", entry.get("host") or "certificates", f"not checked: {answer.error}"
        for certificate in answer.facts or ():
            if certificate["ends"] is None:
                what = "not a PEM certificate: playbook site regenerates those of the site's own CA, replace others yourself"
            else:
                day = datetime.fromtimestamp(certificate["ends"], UTC).date().isoformat()
                what = f"expires on {day}: playbook site renews those of the site's own CA, renew others yourself"
            yield "certificate", f"{certificate['host']}: {certificate['path']}", what


def _engine(name: str, url: str, report: Report) -> dict[str, Any]:
    """The section of an engine; its links are relative to the address of its API."""
    section = report.model_dump(mode="json", exclude={"problems"})
    section["links"] = [{"text": link.text, "url": urljoin(url, link.url)} for link in report.links]
    return {"engine": name, **section}


def _engine_problems(reports: Iterable[tuple[str, str, _CommandResult]]) -> Iterable[tuple[str, str, str]]:
    for name, _, result in reports:
        if result.error:
            yield name, name, result.error
        for problem in result.facts.problems if result.facts else ():
            yield name, f"{name}: {problem.name}", problem.detail


def _problems(
    regions: Iterable[Json],
    answers: Mapping[str, _CommandResult],
    status: StatusResponse | None,
    others: Iterable[tuple[str, str, str]],
) -> list[dict[str, str]]:
    """Everything that needs attention, without duplicates."""
    found = [("region", region["name"], region["error"]) for region in regions if region["error"]]
    found += [(kind, kind, answers[name].error) for kind, names in COMMANDS.items() for name in names if name in answers]
    if status is not None and not status.healthy:
        found.append(("scheduler", "scheduler", status.problem or "unhealthy"))
    found += others
    queue = answers["queue"].facts if "queue" in answers else None
    if held := _in_state(queue, 5):
        found.append(("jobs", "jobs", f"{held} held: run condor_q -hold -allusers on the submit node to see why"))
    return [{"kind": kind, "name": name, "what": _one_line(what)} for kind, name, what in dict.fromkeys(found) if what]


def _vms_now(listed: VmListResponse | None, vms: Iterable[Json]) -> int | None:
    """The number of live workers; None if unknown. `vms` may also have those that are gone."""
    if listed is None or listed.cursor is not None:  # without an answer, or with a part of it
        return None
    return sum(1 for vm in vms if vm["state"] != "gone")


def _vms_ever(totals: TotalsResponse | None) -> Counter[str] | None:
    """The number of workers each region has ever had, live ones included; None if unknown."""
    if totals is None:
        return None
    ever: Counter[str] = Counter()
    for cloud in totals.vms:
        ever[cloud.region] += sum(cloud.vms.values())
    return ever


def _region(region: Json, status: StatusResponse | None, ever: Mapping[str, int] | None) -> dict[str, Any]:
    name = region["name"]
    clouds = [cloud for cloud in status.clouds if cloud.region == name] if status is not None else []
    return {
        "name": name,
        "auth_url": region.get("auth_url") or "",
        "reachable": not region.get("error"),
        "error": _one_line(region.get("error") or "; ".join(dict.fromkeys(cloud.error for cloud in clouds if cloud.error))),
        "clouds": [
            {
                "group": cloud.group,
                "name": cloud.cloud,
                "enabled": cloud.enabled,
                "reachable": cloud.reachable,
                "vms": sum(cloud.vms.values()),
                "quota_vms": cloud.quota_vms,
            }
            for cloud in clouds
        ],
        "vms_now": None if status is None else sum(sum(cloud.vms.values()) for cloud in clouds),
        "vms_ever": None if ever is None else ever.get(name, 0),
    }


def _images(region: Json) -> Iterable[dict[str, Any]]:
    for image in region.get("images") or ():
        size = image.get("size")
        yield {"name": image["name"], "region": region["name"], "sha512": image["sha512"], "size": None if size is None else int(size)}


def _pool(where: Json, facts: Json) -> dict[str, Any]:
    machines, queue, jobs = (facts.get(name) for name in ("machines", "queue", "jobs"))
    return {
        "collector": where.get("collector", ""),
        "schedd": where.get("schedd", ""),
        "domain": where.get("domain", ""),
        "workers": None if machines is None else len({ad.get("Machine") for ad in machines}),
        "slots_claimed": None if machines is None else sum(1 for ad in machines if ad.get("State") == "Claimed"),
        "jobs_idle": _in_state(queue, 1),
        "jobs_running": _in_state(queue, 2),
        "jobs_held": _in_state(queue, 5),
        "jobs_done": _in_state(jobs, 4),
    }


def _in_state(ads: Iterable[Json] | None, state: int) -> int | None:
    return None if ads is None else sum(1 for ad in ads if ad.get("JobStatus") == state)


def _job(ad: Json) -> dict[str, Any]:
    """One finished job. Users may set most attributes of their jobs: values of an unexpected type are ignored."""
    submitted, started = _moment(ad.get("QDate")), _moment(ad.get("JobStartDate"))
    ended = "removed" if ad.get("JobStatus") != 4 else "signal" if ad.get("ExitBySignal", False) else "exit"
    return {
        "id": f"{ad['ClusterId']}.{ad['ProcId']}",
        "owner": str(ad.get("Owner", "")),
        "region": _text(ad.get("MachineAttrDistcloudRegion0")),
        "vm": _text(ad.get("MachineAttrDistcloudVm0")),
        "waited_s": None if started is None or submitted is None else max(0, started - submitted),
        "exit_code": _number(ad.get("ExitCode")) if ended == "exit" else None,
        "ended": ended,
        "ended_at": _moment(ad.get("CompletionDate")) or _moment(ad.get("EnteredCurrentStatus")),
    }


def _text(value: object) -> str | None:
    return _one_line(value) if isinstance(value, str) else None


def _number(value: object) -> int | None:
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) else None


def _moment(value: object) -> int | None:
    """Whole seconds since the epoch, as in HTCondor."""
    number = _number(value)
    return number if number is not None and 0 <= number <= _LATEST else None


def _vm(vm: VmResponse) -> dict[str, Any]:
    return {
        "id": vm.id,
        "region": vm.region,
        "flavor": vm.flavor,
        "state": vm.state.value,
        "requested_at": parse_timestamp(vm.requested_at),
        "gone_at": parse_timestamp(vm.gone_at),
        "group": vm.group,
        "reason": vm.reason,
    }


def _cluster_order(job_id: str) -> tuple[int, int]:
    cluster, _, proc = job_id.partition(".")
    return int(cluster), int(proc)
