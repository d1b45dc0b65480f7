# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Client of the APIs of one OpenStack region: login by clouds.yaml, plain requests, errors as failures.

openstacksdk reads clouds.yaml and creates the session; resources are addressed by their documented REST paths, because a module needs two
or three requests where the SDK's proxies send five, and paths have not changed for years while the proxies' names have.
Private to the collection: no promise is made to users outside of it.
"""

from __future__ import annotations

import re
import typing as t

from .._core.module import Failure

# The API version requested of each service: the version in the path, and for Nova the microversion (flavor description 2.55, extra specs in
# lists 2.61).
VERSIONS = {"identity": "v3", "compute": "v2.1", "image": "v2", "network": "v2.0", "block-storage": "v3"}
NOVA_MICROVERSION = "2.61"
SERVICE_NAMES = {"identity": "keystone", "compute": "nova", "image": "glance", "network": "neutron", "block-storage": "cinder"}

API_TIMEOUT = 30

UNREACHABLE = "unreachable"
UNKNOWN_CLOUD = "unknown_cloud"
NO_ENDPOINT = "no_endpoint"


def openstack_argument_spec() -> dict[str, t.Any]:
    """The connection options, named as in openstack.cloud."""
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


def is_pending(failure: Failure, params: dict[str, t.Any], check_mode: bool) -> bool:
    """Whether check mode continues without this account, because an earlier task would have created its entry or its login."""
    pending = params["login_pending"] and failure.code == 401
    return check_mode and (failure.code == UNKNOWN_CLOUD or pending)


def endpoint_url(base: str, service: str) -> str:
    """The catalog's address of a service with our API version, however the region registered it."""
    base = base.rstrip("/")
    version = VERSIONS[service]
    if re.search(r"/v[0-9][0-9.]*(/|$)", base):
        return re.sub(r"/v[0-9][0-9.]*$", "/" + version, base) if service == "identity" else base
    return f"{base}/{version}"


def path_behind(base: str, path: str) -> str:
    """A path that begins with a version, such as ``/v2.1/servers``, as a full path of a service's endpoint.

    It keeps what the endpoint has before the version (``/compute``) and after it (``/project-id``, in older ones).
    """
    whole = re.sub(r"^[a-z]+://[^/]+", "", base.rstrip("/"))
    found = re.match(r"^(.*?)(/v[0-9][0-9.]*)(/.*)?$", whole)
    if not found:
        return whole + path
    prefix, version, project = found.groups()
    if project and path.startswith(version + "/"):
        return prefix + version + project + path[len(version) :]
    return prefix + path


def error_message(status: int, body: t.Any) -> str:
    """The error message in a response body, in any of the formats that the services use."""
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
    return f"HTTP status {status}"


class Client:
    """One account in one region; every method raises `Failure` with the service's name and HTTP status."""

    def __init__(
        self,
        session: t.Any,
        label: str,
        region_name: str | None = None,
        interface: str = "public",
        auth_url: str = "",
        cacert: str | None = None,
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
        """The service's address in the catalog."""
        if service not in self._bases:
            found = translate_errors(lambda: self.find_endpoint(service), self.label, service)
            if not found:
                where = f" in region {self.region_name}" if self.region_name else ""
                raise Failure(
                    f"{self.label}: the catalog has no {service} service{where}; check region_name and interface",
                    "keystone",
                    NO_ENDPOINT,
                )
            self._bases[service] = found
        return self._bases[service]

    def find_endpoint(self, service: str) -> str | None:
        from keystoneauth1 import exceptions

        try:
            found: str | None = self.session.get_endpoint(service_type=service, interface=self.interface, region_name=self.region_name)
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
        """Send one request; the parsed response, or None if the status is one of ``allow`` or there is no body."""
        headers = {"Accept": "application/json"}
        if service == "compute":
            headers["OpenStack-API-Version"] = "compute " + NOVA_MICROVERSION
        address = endpoint_url(self.base(service), service) + path
        answer = translate_errors(
            lambda: self.session.request(
                address,
                method,
                json=body,
                params=query or None,
                headers=headers,
                raise_exc=False,
                # Never repeat a creation: it may have succeeded although its response was lost, and the next run finds the resource.
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
                f"{self.label}: {SERVICE_NAMES[service]} refused {method} {path}: {error_message(answer.status_code, parsed)}",
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
        """The HTTP status of a GET of a path with a version, below the root of a service's endpoint."""
        found = self.base(service)
        root = re.match(r"^[a-z]+://[^/]+", found)
        address = (root.group(0) if root else "") + path_behind(found, path)
        answer = translate_errors(
            lambda: self.session.request(
                address, "GET", headers={"Accept": "application/json"}, raise_exc=False, connect_retries=2, allow_reauth=False
            ),
            self.label,
            service,
        )
        return int(answer.status_code)

    def me(self) -> dict[str, str | None]:
        """Ids of this account's user and project, and its roles."""
        access = translate_errors(lambda: self.session.auth.get_access(self.session), self.label, "identity")
        return {"user_id": access.user_id, "project_id": access.project_id, "roles": access.role_names}


def login_with_credential(client: Client, document: dict[str, t.Any]) -> Client:
    """A client of the same region that logs in with an application credential."""
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


def next_page(answer: dict[str, t.Any], key: str) -> str | None:
    """The address of a listing's next page in any of the three formats that the services use."""
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


def tls_advice(error: str) -> str:
    """Why OpenSSL rejects a certificate, and what to do about it."""
    for words, advice in (
        ("has expired", "it has expired; the region's admin has to renew it"),
        ("not yet valid", "it is not valid yet; check the clocks"),
        ("mismatch", "it is for another name; use that name in auth_url, or ask the region's admin"),
    ):
        if words in error:
            return advice
    return "it is not signed by a trusted authority; set cacert in clouds.yaml to the CA's file"


def translate_errors(call: t.Callable[[], t.Any], label: str, service: str) -> t.Any:
    """Run a call of the SDK and turn its exceptions into a `Failure` that says what to check."""
    from keystoneauth1 import exceptions

    try:
        return call()
    except exceptions.ClientException as error:
        raise failure_from(error, label, service)


def failure_from(error: t.Any, label: str, service: str) -> Failure:
    """The failure for an exception of the SDK (connection, TLS, login)."""
    from keystoneauth1 import exceptions

    # For an auth_url without a version it only reports that discovery failed; the reason is in the context.
    if isinstance(error, exceptions.DiscoveryFailure) and isinstance(error.__context__, exceptions.ClientException):
        error = error.__context__
    if isinstance(error, exceptions.SSLError):
        return Failure(
            f"{label}: the certificate of the {service} service was not accepted: {tls_advice(str(error))}",
            SERVICE_NAMES[service],
            "tls",
            {"error": str(error)},
        )
    if isinstance(error, (exceptions.ConnectionError, exceptions.ServiceUnavailable, exceptions.BadGateway)):
        return Failure(
            f"{label}: the {service} service is unreachable; check that the region is up and that its port is open from here",
            SERVICE_NAMES[service],
            UNREACHABLE,
            {"error": str(error)},
        )
    if isinstance(error, exceptions.Unauthorized):
        return Failure(
            f"{label}: the login was refused; check user, password, project and their domains in clouds.yaml",
            "keystone",
            401,
            {"error": str(error)},
        )
    if service == "identity" and isinstance(error, (exceptions.DiscoveryFailure, exceptions.NotFound)):
        return Failure(
            f"{label}: auth_url is not the address of a Keystone; check it in clouds.yaml (usually https://HOST:5000/v3)",
            "keystone",
            "no_keystone",
            {"error": str(error)},
        )
    return Failure(f"{label}: {error}", SERVICE_NAMES[service], getattr(error, "http_status", None) or "error", {})


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
        session = translate_errors(lambda: connection.session, label, "identity")
    except sdk_exceptions.ConfigException as error:
        raise Failure(
            f"{label}: {error}; clouds.yaml is looked for in OS_CLIENT_CONFIG_FILE, here, ~/.config/openstack and /etc/openstack",
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
    translate_errors(session.get_token, label, "identity")
    return client
