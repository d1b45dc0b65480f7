"""Which jobs run on which workers: HTCondor's match of a job ad with the slot ad that a worker would advertise.

An `AdMatcher` evaluates the two ads. The slot ad comes from the template that configures the real worker. Answers are cached,
because the same pairs are evaluated in every cycle.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from ..domain.model import Cloud, Demand, Flavor, Resources
from ..worker.configuration import SettingsError, WorkerSettings
from ..worker.offer import offered
from ..worker.synthetic import IMAGE_CONSTANTS, slot_ad
from .ad_matcher import AdMatcher, InProcessMatcher
from .bindings import load
from .clauses import Failure

# Answers that depend on these functions cannot be cached from one cycle to the next.
_TIME_DEPENDENT: Final = re.compile(r"\b(time|currenttime|random|servertime)\b", re.IGNORECASE)
# What is over a limit is evaluated in every cycle; a cache that is emptied instead would make every answer be evaluated again.
_MAX_ANSWERS: Final = 2_000_000
_MAX_DETAILS: Final = 400_000
_MAX_ADS: Final = 40_000  # of jobs, and of workers
_NO_ATTRIBUTES: Final[Mapping[str, str]] = MappingProxyType({})

JobAdKey = tuple[object, ...]
WorkerAdKey = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Match:
    """Whether the job would run on the worker, and if not, why (one sentence)."""

    ok: bool
    detail: str = ""
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class JobAd:
    """The job ad of a demand; equal keys give equal answers.

    `answers` and `details` are the matcher's cache, by `WorkerAd.number`: they are freed with the job ad."""

    key: JobAdKey
    owner: str
    ad: str  # JSON text: {attribute: expression}
    time_dependent: bool = False  # its requirements use the time: answers are valid for one `now` only
    answers: dict[int, bool] = field(default_factory=dict, compare=False, repr=False)
    details: dict[int, Match] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class WorkerAd:
    """The slot ad of a kind of worker, as JSON text; if `error` is set, there is no ad and nothing matches.

    `number` is unique per matcher and never used again."""

    key: WorkerAdKey
    label: str
    number: int
    ad: str = ""
    error: str = ""


_MATCHES: Final = Match(True)


class Matcher:
    """Answers whether a job would run on a kind of worker, and caches the answers; create one per process."""

    def __init__(
        self,
        domain: str = "distcloud.lab",
        condor_host: str = "central.distcloud.lab",
        constants: Mapping[str, str] = IMAGE_CONSTANTS,
        job_attributes: Mapping[str, str] = _NO_ATTRIBUTES,
        ad_matcher: AdMatcher | None = None,
    ) -> None:
        """`ad_matcher` evaluates the ads; the default does so in this process, which a job ad can crash. `constants` describe the worker
        image; `job_attributes` are added to every job ad (ClassAd text)."""
        self._domain = domain
        self._condor_host = condor_host
        self._constants = dict(constants)
        self._job_attributes = dict(job_attributes)
        self._ad_matcher = ad_matcher or InProcessMatcher()
        self._quote = load().quote
        self._jobs: dict[JobAdKey, JobAd] = {}
        self._older_jobs: dict[JobAdKey, JobAd] = {}  # not requested since the cache was found to be full
        self._workers: dict[WorkerAdKey, WorkerAd] = {}
        self._worker_numbers = itertools.count()
        self._answer_count = self._detail_count = 0
        self._cycle: float | None = None
        self._now: float | None = None
        self._time_dependent_jobs: dict[JobAdKey, JobAd] = {}
        self.evaluations = 0

    def job(self, demand: Demand, now: float | None = None) -> JobAd:
        """The job ad of a demand. One with a malformed expression matches nothing."""
        if now is not None and now != self._cycle:
            self._start_cycle(now)
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
        older = self._older_jobs.pop(key, None)
        if older is not None:
            self._jobs[key] = older
            return older
        if _TIME_DEPENDENT.search(demand.requirements) or any(_TIME_DEPENDENT.search(text) for text in attributes.values()):
            return self._time_dependent_job(demand, key, now)
        job = self._make_job(demand, key)
        if len(self._jobs) + len(self._older_jobs) < _MAX_ADS:
            self._jobs[key] = job
        return job

    def _start_cycle(self, now: float) -> None:
        """Free the jobs that were not requested since the last time that the cache was full, if it is full again."""
        self._cycle = now
        ads = len(self._jobs) + len(self._older_jobs)
        if ads < _MAX_ADS and self._answer_count < _MAX_ANSWERS and self._detail_count < _MAX_DETAILS:
            return
        self._older_jobs, self._jobs = self._jobs, {}
        self._answer_count = sum(len(job.answers) for job in self._older_jobs.values())
        self._detail_count = sum(len(job.details) for job in self._older_jobs.values())

    def _time_dependent_job(self, demand: Demand, key: JobAdKey, now: float | None) -> JobAd:
        if now is None or now != self._now:
            self._now = now
            self._time_dependent_jobs.clear()
        job = self._time_dependent_jobs.get(key)
        if job is None:
            self._time_dependent_jobs[key] = job = self._make_job(demand, key, time_dependent=True)
        return job

    def worker(self, cloud: Cloud, flavor: Flavor, alias: str | None = None, image: str = "", offer: Resources | None = None) -> WorkerAd:
        """The slot ad for a flavor of a cloud; `offer`: the resources it is known to offer, if they differ from the computed ones."""
        attributes = tuple(sorted(cloud.attributes.items())) if cloud.attributes else ()
        key: WorkerAdKey = (cloud.group, cloud.name, cloud.region, flavor.name, flavor.resources, alias, image, attributes, offer)
        found = self._workers.get(key)
        if found is None:
            if len(self._workers) >= _MAX_ADS:
                self.forget()
            self._workers[key] = found = self._make_worker(key, cloud, flavor, alias, image, offer or offered(flavor.resources))
        return found

    def matches(self, job: JobAd, worker: WorkerAd) -> bool:
        """Whether the two match; cached per pair. False if the answer is not available now."""
        cached = job.answers.get(worker.number)
        if cached is not None:
            return cached
        answer = self._ask(job, worker)
        if answer is None:
            return False  # not cached
        if self._answer_count < _MAX_ANSWERS:
            job.answers[worker.number] = answer
            self._answer_count += 1
        return answer

    def _ask(self, job: JobAd, worker: WorkerAd) -> bool | None:
        if worker.error:
            return False
        self.evaluations += 1
        return self._ad_matcher.matches(job.owner, job.ad, worker.ad)

    def why(self, job: JobAd, worker: WorkerAd) -> Match:
        """Whether the two match, and why not."""
        if self.matches(job, worker):
            return _MATCHES
        found = job.details.get(worker.number)
        if found is None:
            found = self._explain(job, worker)
            # Without a cached answer the evaluation may only be unavailable now: its reason is not cached either.
            if worker.number in job.answers and self._detail_count < _MAX_DETAILS:
                job.details[worker.number] = found
                self._detail_count += 1
        return found

    def match(self, demand: Demand, cloud: Cloud, flavor: Flavor, alias: str | None = None, image: str = "") -> Match:
        """Whether jobs of this demand would run on workers of this flavor of this cloud."""
        return self.why(self.job(demand), self.worker(cloud, flavor, alias, image))

    def forget(self) -> None:
        """Clear all caches."""
        for memory in (self._jobs, self._older_jobs, self._time_dependent_jobs, self._workers):
            memory.clear()
        self._answer_count = self._detail_count = 0

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
        label, number = f"{cloud.name}/{flavor.name}", next(self._worker_numbers)
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
            return WorkerAd(key, label, number, error=f"the worker of cloud {cloud.name} cannot be configured: {problem}")
        return WorkerAd(key, label, number, json.dumps(text))

    def _explain(self, job: JobAd, worker: WorkerAd) -> Match:
        if worker.error:
            return Match(False, worker.error)
        reasons = self._ad_matcher.reasons(job.owner, job.ad, worker.ad)
        if reasons.error:
            return Match(False, reasons.error)
        detail = "; ".join(f"{worker.label}: {each}" for each in reasons.failures) or f"{worker.label}: the match fails"
        return Match(False, detail, reasons.failures)
