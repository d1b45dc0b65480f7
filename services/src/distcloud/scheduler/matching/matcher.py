"""Which jobs run on which workers: HTCondor's own match of a job ad with the slot ad that a worker would advertise.

A ad_matcher puts the two to HTCondor's library (see `judging`). The slot ad comes from the template that configures the real worker.
Answers are kept, because the same questions come every cycle.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ..domain.model import Cloud, Demand, Flavor, Resources
from ..worker.configuration import SettingsError, WorkerSettings
from ..worker.offer import offered
from ..worker.synthetic import IMAGE_CONSTANTS, slot_ad
from .ad_matcher import AdMatcher, InProcessMatcher
from .bindings import load
from .clauses import Failure

# Expressions whose value changes by itself cannot be kept from one cycle to the next.
_TIME_DEPENDENT: Final = re.compile(r"\b(time|currenttime|random|servertime)\b", re.IGNORECASE)
_CACHE_SIZE: Final = 400_000
_NO_ATTRIBUTES: Final[Mapping[str, str]] = MappingProxyType({})

JobAdKey = tuple[object, ...]
WorkerAdKey = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Match:
    """Whether the job would run there, and if not, why (one sentence)."""

    ok: bool
    detail: str = ""
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class JobAd:
    """A demand prepared for matching; equal keys have equal answers."""

    key: JobAdKey
    owner: str
    ad: str  # as JSON text: {attribute: expression}
    time_dependent: bool = False  # its requirements speak of the time: answers hold for one moment only


@dataclass(frozen=True, slots=True)
class WorkerAd:
    """A kind of worker prepared for matching, with its slot ad as JSON text; with `error` it can be none."""

    key: WorkerAdKey
    label: str
    ad: str = ""
    error: str = ""


_MATCHES: Final = Match(True)


class Matcher:
    """Answers `would this job run on such a worker?`; keep one for the life of the process, it remembers."""

    def __init__(
        self,
        domain: str = "distcloud.lab",
        condor_host: str = "central.distcloud.lab",
        constants: Mapping[str, str] = IMAGE_CONSTANTS,
        job_attributes: Mapping[str, str] = _NO_ATTRIBUTES,
        ad_matcher: AdMatcher | None = None,
    ) -> None:
        """`ad_matcher` answers; without one this very process does, which a job's ad can end. `constants` say what the worker image is;
        `job_attributes` are what every job ad of the pool carries (ClassAd text)."""
        self._domain = domain
        self._condor_host = condor_host
        self._constants = dict(constants)
        self._job_attributes = dict(job_attributes)
        self._ad_matcher = ad_matcher or InProcessMatcher()
        self._quote = load().quote
        self._jobs: dict[JobAdKey, JobAd] = {}
        self._workers: dict[WorkerAdKey, WorkerAd] = {}
        self._answers: dict[tuple[int, int], bool] = {}
        self._details: dict[tuple[int, int], Match] = {}
        self._keep_alive: list[object] = []  # keeps the ids in `_answers` unique: what they name stays alive
        self._now: float | None = None
        self._time_dependent_jobs: dict[JobAdKey, JobAd] = {}
        self._time_dependent_answers: dict[tuple[int, int], bool] = {}
        self.evaluations = 0

    def job(self, demand: Demand, now: float | None = None) -> JobAd:
        """The job ad of a demand. One with broken text matches nothing."""
        attributes = demand.attributes
        key: JobAdKey = (
            demand.requirements,
            demand.request,
            demand.group,
            demand.owner,
            demand.image,
            demand.flavor,
            tuple(sorted(attributes.items())) if attributes else (),
        )
        found = self._jobs.get(key)
        if found is not None:
            return found
        if _TIME_DEPENDENT.search(demand.requirements) or any(_TIME_DEPENDENT.search(text) for text in attributes.values()):
            return self._time_dependent_job(demand, key, now)
        if len(self._jobs) > _CACHE_SIZE // 10:
            self.forget()
        self._jobs[key] = job = self._make_job(demand, key)
        return job

    def _time_dependent_job(self, demand: Demand, key: JobAdKey, now: float | None) -> JobAd:
        if now is None or now != self._now:
            self._now = now
            self._time_dependent_jobs.clear()
            self._time_dependent_answers.clear()
        job = self._time_dependent_jobs.get(key)
        if job is None:
            self._time_dependent_jobs[key] = job = self._make_job(demand, key, time_dependent=True)
        return job

    def worker(self, cloud: Cloud, flavor: Flavor, alias: str | None = None, image: str = "", offer: Resources | None = None) -> WorkerAd:
        """The kind of worker that a flavor of a cloud gives; `offer`: what it is known to offer, if that differs."""
        attributes = tuple(sorted(cloud.attributes.items())) if cloud.attributes else ()
        key: WorkerAdKey = (cloud.group, cloud.name, cloud.region, flavor.name, flavor.resources, alias, image, attributes, offer)
        found = self._workers.get(key)
        if found is None:
            if len(self._workers) > _CACHE_SIZE // 10:
                self.forget()
            self._workers[key] = found = self._make_worker(key, cloud, flavor, alias, image, offer or offered(flavor.resources))
        return found

    def matches(self, job: JobAd, worker: WorkerAd) -> bool:
        """The bare answer, kept per pair."""
        pair = (id(job), id(worker))
        answers = self._time_dependent_answers if job.time_dependent else self._answers
        answer = answers.get(pair)
        if answer is None:
            if len(self._answers) > _CACHE_SIZE:
                self.forget()
            answer = self._ask(job, worker)
            if answer is None:
                return False  # for the moment
            answers[pair] = answer
            if not job.time_dependent:
                self._keep_alive.append((job, worker))
        return answer

    def _ask(self, job: JobAd, worker: WorkerAd) -> bool | None:
        if worker.error:
            return False
        self.evaluations += 1
        return self._ad_matcher.matches(job.owner, job.ad, worker.ad)

    def why(self, job: JobAd, worker: WorkerAd) -> Match:
        """The answer with its reason."""
        if self.matches(job, worker):
            return _MATCHES
        pair = (id(job), id(worker))
        if pair not in self._answers:  # neither is an answer kept that does not hold, or is none
            return self._explain(job, worker)
        found = self._details.get(pair)
        if found is None:
            self._details[pair] = found = self._explain(job, worker)
        return found

    def match(self, demand: Demand, cloud: Cloud, flavor: Flavor, alias: str | None = None, image: str = "") -> Match:
        """One question from the outside: would jobs of this demand run on workers of this flavor of this cloud?"""
        return self.why(self.job(demand), self.worker(cloud, flavor, alias, image))

    def forget(self) -> None:
        """Drop all that is remembered."""
        for memory in (self._jobs, self._workers, self._answers, self._details, self._keep_alive):
            memory.clear()

    def _make_job(self, demand: Demand, key: JobAdKey, time_dependent: bool = False) -> JobAd:
        quote = self._quote
        text = {
            "MyType": '"Job"',
            "TargetType": '"Machine"',
            "JobUniverse": "5",
            "JobStatus": "1",
            "Owner": quote(demand.owner),
            "User": quote(f"{demand.owner}@{self._domain}"),
            "DistcloudGroup": quote(demand.group),
            "FileSystemDomain": quote(self._domain),
            "UidDomain": quote(self._domain),
            **self._job_attributes,
        }
        if demand.image:
            text["VMImage"] = quote(demand.image)
        if demand.flavor:
            text["VMInstanceType"] = quote(demand.flavor)
        text |= demand.attributes
        text |= {
            "RequestCpus": str(demand.request.cores),
            "RequestMemory": str(demand.request.ram_mib),
            "RequestDisk": str(math.ceil(demand.request.disk_gib * 1024 * 1024)),
            "Requirements": demand.requirements.strip() or "true",
        }
        return JobAd(key, demand.owner, json.dumps(text), time_dependent)

    def _make_worker(self, key: WorkerAdKey, cloud: Cloud, flavor: Flavor, alias: str | None, image: str, offer: Resources) -> WorkerAd:
        label = f"{cloud.name}/{flavor.name}"
        settings = WorkerSettings(
            host="worker",
            domain=self._domain,
            condor_host=self._condor_host,
            group=cloud.group,
            cloud=cloud.name,
            region=cloud.region,
            flavor=flavor.name,
            image=image,
            alias=alias,
            cores=offer.cores,
            memory_mib=offer.ram_mib,
            attributes=cloud.attributes,
        )
        try:
            text = slot_ad(settings, offer, self._constants)
        except SettingsError as problem:
            return WorkerAd(key, label, error=f"the worker of cloud {cloud.name} cannot be configured: {problem}")
        return WorkerAd(key, label, json.dumps(text))

    def _explain(self, job: JobAd, worker: WorkerAd) -> Match:
        if worker.error:
            return Match(False, worker.error)
        reasons = self._ad_matcher.reasons(job.owner, job.ad, worker.ad)
        if reasons.error:
            return Match(False, reasons.error)
        detail = "; ".join(f"{worker.label}: {each}" for each in reasons.failures) or f"{worker.label}: the match fails"
        return Match(False, detail, reasons.failures)
