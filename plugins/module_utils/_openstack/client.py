# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Talks to the APIs of one OpenStack region: log-in by clouds.yaml, plain requests, errors in words.

openstacksdk reads clouds.yaml and makes the session; resources are spoken to by their documented REST paths, because a module needs two or
three requests where the SDK's proxies send five, and paths have not changed for years while the proxies' names have.
Private to the collection: no promise is made to users outside of it.
"""

from __future__ import annotations

import re
import typing as t

from .._core.module import Failure

# What is asked of each service: the version in the path, and for Nova the microversion (flavor description 2.55, extra specs in
# lists 2.61).
VERSIONS = {"identity": "v3", "compute": "v2.1", "image": "v2", "network": "v2.0", "block-storage": "v3"}
NOVA_MICROVERSION = "2.61"
SERVICE_NAMES = {"identity": "keystone", "compute": "nova", "image": "glance", "network": "neutron", "block-storage": "cinder"}

API_TIMEOUT = 30

UNREACHABLE = "unreachable"
UNKNOWN_CLOUD = "unknown_cloud"
NO_ENDPOINT = "no_endpoint"


def openstack_argument_spec() -> dict[str, t.Any]:
    """The options by which a region is reached, named as in openstack.cloud."""
    return {
        "cloud": {"type": "str"},
        "auth": {"type": "dict", "no_log": True},
        "auth_type": {"type": "str"},
        "region_name": {"type": "str"},
        "validate_certs": {"type": "bool", "aliases": ["verify"]},
        "ca_cert": {"type": "path", "aliases": ["cacert"]},
        "interface": {"type": "str", "default": "public", "choices": ["public", "internal", "admin"], "aliases": ["endpoint_type"]},
        "api_timeout": {"type": "int"},
    }


def still_to_come(failure: Failure, params: dict[str, t.Any], check_mode: bool) -> bool:
    """Whether a check goes on without this account: an earlier task would write its entry or make its log-in, and in a check did not."""
    pending = params["login_pending"] and failure.code == 401
    return check_mode and (failure.code == UNKNOWN_CLOUD or pending)


def endpoint_url(base: str, service: str) -> str:
    """The catalogue's address of a service with the version that we speak, whichever way the region wrote it there."""
    base = base.rstrip("/")
    version = VERSIONS[service]
    if re.search(r"/v[0-9][0-9.]*(/|$)", base):
        return re.sub(r"/v[0-9][0-9.]*$", "/" + version, base) if service == "identity" else base
    return "%s/%s" % (base, version)


def placed_path(base: str, path: str) -> str:
    """A path that begins with a version, such as ``/v2.1/servers``, as it stands under a service's address in the catalogue.

    That is behind what the address has before its version (``/compute``), and with what it has after it (``/project-id``, in older ones).
    """
    whole = re.sub(r"^[a-z]+://[^/]+", "", base.rstrip("/"))
    found = re.match(r"^(.*?)(/v[0-9][0-9.]*)(/.*)?$", whole)
    if not found:
        return whole + path
    prefix, version, project = found.groups()
    if project and path.startswith(version + "/"):
        return prefix + version + project + path[len(version) :]
    return prefix + path


def message_of(status: int, body: t.Any) -> str:
    """The sentence in which a service says what was wrong, out of the forms that the services use."""
    if isinstance(body, dict):
        for key in ("error", "NeutronError"):
            inner = body.get(key)
            if isinstance(inner, dict) and inner.get("message"):
                return str(inner["message"])
        for inner in body.values():
            if isinstance(inner, dict) and inner.get("message"):
                return str(inner["message"])
        if body.get("message"):
            return str(body["message"])
    if isinstance(body, str) and body:
        return re.sub(r"<[^>]*>|\s+", " ", body).strip()[:300]
    return "HTTP status %s" % status


class Client:
    """One account in one region; every method raises `Failure` with the service's name and HTTP status."""

    def __init__(
        self,
        session: t.Any,
        label: str,
        region_name: t.Optional[str] = None,
        interface: str = "public",
        auth_url: str = "",
        cacert: t.Optional[str] = None,
        verify: bool = True,
    ) -> None:
        self.session = session
        self.label = label
        self.region_name = region_name
        self.interface = interface
        self.auth_url = auth_url
        self.cacert = cacert
        self.verify = verify
        self._bases: dict[str, str] = {}

    def base(self, service: str) -> str:
        """The service's address in the catalogue."""
        if service not in self._bases:
            found = translated(lambda: self.looked_up(service), self.label, service)
            if not found:
                raise Failure(
                    "%s: the catalogue names no %s service%s; check region_name and interface"
                    % (self.label, service, " in region %s" % self.region_name if self.region_name else ""),
                    "keystone",
                    NO_ENDPOINT,
                )
            self._bases[service] = found
        return self._bases[service]

    def looked_up(self, service: str) -> t.Optional[str]:
        from keystoneauth1 import exceptions

        try:
            found: t.Optional[str] = self.session.get_endpoint(service_type=service, interface=self.interface, region_name=self.region_name)
        except exceptions.EndpointNotFound:
            return None
        return found

    def offers(self, service: str) -> bool:
        """Whether the region has this service at all."""
        try:
            return bool(self.base(service))
        except Failure as failure:
            if failure.code != NO_ENDPOINT:
                raise
            return False

    def request(
        self,
        method: str,
        service: str,
        path: str,
        body: t.Any = None,
        allow: t.Collection[int] = (),
        authenticated: bool = True,
        **query: t.Any,
    ) -> t.Any:
        """Send one request; the parsed answer, or None where the status is one of ``allow`` or there is no body."""
        headers = {"Accept": "application/json"}
        if service == "compute":
            headers["OpenStack-API-Version"] = "compute " + NOVA_MICROVERSION
        address = endpoint_url(self.base(service), service) + path
        answer = translated(
            lambda: self.session.request(
                address,
                method,
                json=body,
                params=query or None,
                headers=headers,
                raise_exc=False,
                # Not for what creates: an answer that was lost may have been a yes, and the next run finds what was made.
                connect_retries=0 if method == "POST" else 2,
                redirect=False,
                authenticated=authenticated,
            ),
            self.label,
            service,
        )
        if answer.status_code in allow:
            return None
        parsed = parse(answer)
        if answer.status_code >= 300:
            raise Failure(
                "%s: %s refused %s %s: %s" % (self.label, SERVICE_NAMES[service], method, path, message_of(answer.status_code, parsed)),
                SERVICE_NAMES[service],
                answer.status_code,
                {"method": method, "path": path},
            )
        return parsed

    def get(self, service: str, path: str, allow: t.Collection[int] = (), **query: t.Any) -> t.Any:
        return self.request("GET", service, path, allow=allow, **query)

    def list(self, service: str, path: str, key: str, **query: t.Any) -> list[dict[str, t.Any]]:
        """All elements of a listing, page by page."""
        elements: list[dict[str, t.Any]] = []
        answer = self.get(service, path, **query)
        while True:
            elements.extend(answer.get(key) or [])
            following = next_page(answer, key)
            if not following:
                return elements
            # The link is followed by its query alone: behind a proxy its host and scheme may be wrong.
            pairs = [pair.split("=", 1) for pair in following.split("?", 1)[-1].split("&") if "=" in pair]
            answer = self.get(service, path, **dict(query, **{name: unquoted(value) for name, value in pairs}))

    def status(self, service: str, path: str) -> int:
        """The HTTP status of reading a path that stands under the root of a service's address, with its version."""
        found = self.base(service)
        root = re.match(r"^[a-z]+://[^/]+", found)
        address = (root.group(0) if root else "") + placed_path(found, path)
        answer = translated(
            lambda: self.session.request(
                address, "GET", headers={"Accept": "application/json"}, raise_exc=False, connect_retries=2, allow_reauth=False
            ),
            self.label,
            service,
        )
        return int(answer.status_code)

    def me(self) -> dict[str, t.Optional[str]]:
        """Ids of the user and project that this account is."""
        access = translated(lambda: self.session.auth.get_access(self.session), self.label, "identity")
        return {"user_id": access.user_id, "project_id": access.project_id, "roles": access.role_names}


def login_with_credential(client: Client, document: dict[str, t.Any]) -> Client:
    """The same region as seen with an application credential."""
    from keystoneauth1 import session
    from keystoneauth1.identity import v3

    auth = v3.ApplicationCredential(
        auth_url=document["auth_url"],
        application_credential_id=document["application_credential_id"],
        application_credential_secret=document["application_credential_secret"],
    )
    verify = client.session.verify
    return Client(
        session.Session(auth=auth, verify=verify, timeout=client.session.timeout), client.label, client.region_name, client.interface
    )


def unquoted(value: str) -> str:
    from urllib.parse import unquote_plus

    return unquote_plus(value)


def next_page(answer: dict[str, t.Any], key: str) -> t.Optional[str]:
    """The address of a listing's next page in any of the three forms that the services use."""
    for link in answer.get(key + "_links") or []:
        if link.get("rel") == "next":
            return link.get("href")
    links = answer.get("links")
    following = links.get("next") if isinstance(links, dict) else answer.get("next")
    return following if isinstance(following, str) else None


def parse(answer: t.Any) -> t.Any:
    if not answer.content:
        return None
    try:
        return answer.json()
    except ValueError:
        return answer.text


def distrust(said: str) -> str:
    """What OpenSSL has against a certificate, with what to do about it."""
    for words, advice in (
        ("has expired", "it has expired; the region's admin has to renew it"),
        ("not yet valid", "it is not valid yet; are the clocks right?"),
        ("mismatch", "it is for another name; use that name in auth_url, or ask the region's admin"),
    ):
        if words in said:
            return advice
    return "no authority that we know has signed it; give the CA's file as cacert in clouds.yaml"


def translated(call: t.Callable[[], t.Any], label: str, service: str) -> t.Any:
    """Run a call of the SDK and turn what can go wrong on the way into a `Failure` that says what to look at."""
    from keystoneauth1 import exceptions

    try:
        return call()
    except exceptions.ClientException as error:
        raise in_words(error, label, service)


def in_words(error: t.Any, label: str, service: str) -> Failure:
    """What the SDK met below the answers of a service."""
    from keystoneauth1 import exceptions

    # Of an auth_url without a version it only says that it found none there; why stands behind that.
    if isinstance(error, exceptions.DiscoveryFailure) and isinstance(error.__context__, exceptions.ClientException):
        error = error.__context__
    if isinstance(error, exceptions.SSLError):
        return Failure(
            "%s: the certificate of the %s service was not accepted: %s" % (label, service, distrust(str(error))),
            SERVICE_NAMES[service],
            "tls",
            {"error": str(error)},
        )
    if isinstance(error, (exceptions.ConnectionError, exceptions.ServiceUnavailable, exceptions.BadGateway)):
        return Failure(
            "%s: the %s service does not answer; is the region up, and is its port open from here?" % (label, service),
            SERVICE_NAMES[service],
            UNREACHABLE,
            {"error": str(error)},
        )
    if isinstance(error, exceptions.Unauthorized):
        return Failure(
            "%s: the log-in was refused; check user, password, project and their domains in clouds.yaml" % label,
            "keystone",
            401,
            {"error": str(error)},
        )
    if service == "identity" and isinstance(error, (exceptions.DiscoveryFailure, exceptions.NotFound)):
        return Failure(
            "%s: what answers at auth_url is no Keystone; check it in clouds.yaml (usually https://HOST:5000/v3)" % label,
            "keystone",
            "no_keystone",
            {"error": str(error)},
        )
    return Failure("%s: %s" % (label, error), SERVICE_NAMES[service], getattr(error, "http_status", None) or "error", {})


def connect(params: dict[str, t.Any]) -> Client:
    """Log in with a module's options (see `openstack_argument_spec`)."""
    try:
        import openstack
        from openstack import exceptions as sdk_exceptions
    except ImportError as error:
        raise Failure(
            "openstacksdk is needed on the machine where this module runs: pip install openstacksdk",
            "python",
            "import",
            {"error": str(error)},
        )
    label = params.get("cloud") or (params.get("auth") or {}).get("auth_url") or "the region"
    settings = {
        "cloud": params.get("cloud"),
        "auth": params.get("auth"),
        "auth_type": params.get("auth_type"),
        "region_name": params.get("region_name"),
        "verify": params.get("validate_certs"),
        "cacert": params.get("ca_cert"),
        "interface": params.get("interface"),
        "api_timeout": params.get("api_timeout"),
    }
    try:
        connection = openstack.connect(**{key: value for key, value in settings.items() if value is not None})
        session = translated(lambda: connection.session, label, "identity")
    except sdk_exceptions.ConfigException as error:
        raise Failure(
            "%s: %s; clouds.yaml is looked for in OS_CLIENT_CONFIG_FILE, here, ~/.config/openstack and /etc/openstack" % (label, error),
            "clouds.yaml",
            UNKNOWN_CLOUD,
        )
    session.timeout = session.timeout or API_TIMEOUT
    config = connection.config
    client = Client(
        session,
        label,
        config.region_name or None,
        params.get("interface") or "public",
        auth_url=config.get_auth_args().get("auth_url") or "",
        cacert=config.config.get("cacert"),
        verify=config.config.get("verify") is not False,
    )
    translated(session.get_token, label, "identity")
    return client
