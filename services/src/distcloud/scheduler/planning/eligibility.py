"""Whether a cloud may serve a demand at all, and with which image and flavor: everything that does not depend on headroom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...common.times import duration
from ..domain.model import Cloud, Demand, Flavor, Policy, Reason, Resources
from ..matching.matcher import JobAd, WorkerAd
from .situation import Situation


@dataclass(frozen=True, slots=True)
class FlavorChoice:
    """A flavor that can run the job."""

    flavor: Flavor
    worker: WorkerAd
    offer: Resources


@dataclass(frozen=True, slots=True)
class CloudOffer:
    """What a cloud can offer for a demand: flavors in the order to try them, or the reason why there are none."""

    cloud: Cloud
    choices: tuple[FlavorChoice, ...] = ()
    image: str = ""
    network: str | None = None
    reason: Reason = Reason.DEMAND
    detail: str = ""


class Eligibility:
    """Computes the offers of clouds; what depends on the cloud alone is computed once per plan."""

    def __init__(self, situation: Situation) -> None:
        self._situation = situation
        self._cloud_refusal = {key: _cloud_refusal(cloud, situation) for key, cloud in situation.clouds.items()}
        self._flavors: dict[tuple[str, str, str | None], list[tuple[Flavor, Resources]]] = {}

    def offers(self, demand: Demand, job: JobAd) -> list[CloudOffer]:
        """One offer per cloud of the demand's group."""
        return [self.offer(demand, job, cloud) for cloud in self._situation.clouds_of.get(demand.group, ())]

    def offer(self, demand: Demand, job: JobAd, cloud: Cloud) -> CloudOffer:
        """The cloud's offer. Checks go from cheap to expensive, from the state of the cloud to the requirements of the job."""
        refusal = self._cloud_refusal[cloud.group, cloud.name]
        if refusal is not None:
            return CloudOffer(cloud, reason=refusal[0], detail=refusal[1])
        group = self._situation.groups.get(demand.group)
        if group is None:
            return CloudOffer(cloud, reason=Reason.GROUP_UNKNOWN, detail=f"there is no group {demand.group}")
        if demand.alias is not None and cloud.name not in group.aliases.get(demand.alias, ()):
            known = "does not include it" if demand.alias in group.aliases else f"is not known to group {group.name}"
            return CloudOffer(cloud, reason=Reason.ALIAS_EXCLUDES, detail=f"{cloud.name}: alias {demand.alias} {known}")
        image = value_for_cloud(demand.image, cloud.name) or cloud.default_image or group.default_image
        if not image:
            return CloudOffer(
                cloud, reason=Reason.NO_IMAGE, detail=f"{cloud.name}: neither the job nor the cloud nor group {group.name} names an image"
            )
        if image not in cloud.images:
            return CloudOffer(cloud, reason=Reason.NO_IMAGE, detail=f"{cloud.name} has no image {image}")
        requested = value_for_cloud(demand.flavor, cloud.name)
        default = None if requested else cloud.default_flavor or group.default_flavor
        choices, why = self._choose(demand, job, cloud, image, requested, default)
        if not choices:
            return CloudOffer(cloud, reason=why[0], detail=why[1])
        network = value_for_cloud(demand.network, cloud.name) or cloud.network
        if network and cloud.networks is not None and network not in cloud.networks:
            return CloudOffer(cloud, reason=Reason.NO_NETWORK, detail=f"{cloud.name} has no network {network}, or several of that name")
        return CloudOffer(cloud, choices, image, network)

    def _choose(
        self, demand: Demand, job: JobAd, cloud: Cloud, image: str, requested: str | None, default: str | None
    ) -> tuple[tuple[FlavorChoice, ...], tuple[Reason, str]]:
        """The job's flavor if it names one; otherwise the default flavor, if the job runs on it, and the smallest that it runs on."""
        situation, request = self._situation, demand.request
        flavors = self._ordered_flavors(cloud, default)
        if requested:
            flavors = [pair for pair in flavors if pair[0].name == requested]
            if not flavors:
                return (), (Reason.NO_FLAVOR, f"{cloud.name} has no flavor {requested}, which the job requests")
        choices: list[FlavorChoice] = []
        tried = None
        for flavor, offer in flavors:
            if not request.fits_in(offer):
                continue
            tried = situation.worker(cloud, flavor.name, flavor.resources, demand.alias, image)
            if situation.matcher.matches(job, tried):
                choices.append(FlavorChoice(flavor, tried, offer))
                if flavor.name != default:
                    break
        if choices:
            return tuple(choices), (Reason.DEMAND, "")
        if tried is None:
            return (), (Reason.NO_FLAVOR, _too_small(cloud, flavors, request))
        # The last one tried is the largest: a clause that fails there usually fails on all.
        return (), (Reason.REQUIREMENTS_MISMATCH, situation.matcher.why(job, tried).detail)

    def _ordered_flavors(self, cloud: Cloud, default: str | None) -> list[tuple[Flavor, Resources]]:
        """The cloud's flavors by size, the default one in front."""
        key = (cloud.group, cloud.name, default)
        found = self._flavors.get(key)
        if found is None:
            sized = sorted(cloud.flavors, key=lambda flavor: (flavor.name != default, *_size(flavor.resources), flavor.name))
            offer = self._situation.offer
            self._flavors[key] = found = [(flavor, offer(key[:2], flavor.name, flavor.resources)) for flavor in sized]
        return found


def value_for_cloud(value: str | None, cloud: str) -> str | None:
    """The value that a job attribute gives for one cloud: `x` for all clouds, or a list of `cloud:x`; an entry for the cloud takes
    precedence. None if the list has only entries for other clouds.
    """
    if not value:
        return None
    entries = [entry.strip() for entry in value.split(",") if entry.strip()]
    for entry in entries:
        name, colon, rest = entry.partition(":")
        if colon and name == cloud and rest:
            return rest
    return next((entry for entry in entries if ":" not in entry), None)


def _cloud_refusal(cloud: Cloud, situation: Situation) -> tuple[Reason, str] | None:
    policy, now = situation.policy, situation.now
    if not cloud.enabled:
        return Reason.CLOUD_DISABLED, f"{cloud.name} is disabled; a cloud_admin may enable it"
    if cloud.frozen:
        return Reason.CLOUD_FROZEN, f"{cloud.name} is frozen"
    if not cloud.reachable:
        return Reason.CLOUD_UNREACHABLE, f"{cloud.name} is unreachable: {cloud.unreachable_reason or 'no reason known'}"
    if cloud.excluded:
        return Reason.EXCLUDED, f"{cloud.name}: {cloud.excluded}"
    if ending := credential_problem(cloud, policy, now):
        return Reason.CREDENTIAL_EXPIRING, ending
    since = None if cloud.last_failure_at is None else now - cloud.last_failure_at
    if is_probing(cloud, situation) and (since is None or 0 <= since < policy.freeze_seconds):
        return (
            Reason.CLOUD_FROZEN,
            f"{cloud.name}: the last {cloud.failures} servers failed; the next attempt is "
            f"{duration(policy.freeze_seconds)} after the last failure",
        )
    return None


def credential_problem(cloud: Cloud, policy: Policy, now: float) -> str:
    """Why the cloud gets no new worker if its credential expires within the margin; otherwise empty."""
    expires = cloud.credential_expires_at
    if expires is None or expires - now >= policy.credential_margin:
        return ""
    left = f"expires in {duration(expires - now)}" if expires > now else "has expired"
    return f"the credential of {cloud.name} {left}; renew it"


def is_probing(cloud: Cloud, situation: Situation) -> bool:
    """Whether so many servers failed in a row that only one at a time is booted."""
    return 0 < situation.policy.freeze_after_failures <= cloud.failures


def _size(server: Resources) -> tuple[int, int, float]:
    return (server.cores, server.ram_mib, server.disk_gib)


def _too_small(cloud: Cloud, flavors: list[tuple[Flavor, Resources]], request: Resources) -> str:
    if not flavors:
        return f"{cloud.name} offers no flavor"
    flavor, offer = max(flavors, key=lambda pair: (_size(pair[1]), pair[0].name))
    what = "flavor" if len(flavors) == 1 else f"none of {len(flavors)} flavors fits; the largest,"
    return f"{cloud.name}: {what} {flavor.name} offers {format_resources(offer)}, the job requests {format_resources(request)}"


def format_resources(amount: Resources) -> str:
    """Resources for people."""
    return f"{amount.cores} core{'s' if amount.cores != 1 else ''}, {amount.ram_mib} MiB, {amount.disk_gib:.4g} GiB of disk"


def refusal_details(offers: list[CloudOffer]) -> Iterator[str]:
    """The refusals among the offers, without duplicates."""
    seen = set()
    for offer in offers:
        if not offer.choices and offer.detail not in seen:
            seen.add(offer.detail)
            yield offer.detail
