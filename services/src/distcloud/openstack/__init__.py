"""One asynchronous client of OpenStack's REST APIs: login, catalog, calls, pages and errors."""

from __future__ import annotations

from .addresses import DEFAULT_POLICY, EndpointPolicy
from .client import OpenStackClient
from .credential import Credential
from .errors import CloudError, ErrorKind

__all__ = ["DEFAULT_POLICY", "CloudError", "Credential", "EndpointPolicy", "ErrorKind", "OpenStackClient"]
