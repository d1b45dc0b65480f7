"""Cloud drivers: one protocol (`base.CloudDriver`), and one driver per kind of cloud."""

from __future__ import annotations

from ...openstack import DEFAULT_POLICY, EndpointPolicy
from .base import Account, CloudDriver, CloudError, ErrorKind
from .openstack import OpenStackDriver


def make_driver(account: Account, endpoints: EndpointPolicy = DEFAULT_POLICY) -> CloudDriver:
    """Create the driver for an account. Raises CloudError for an unsupported driver or an unusable account."""
    if account.driver == "openstack":
        return OpenStackDriver(account, endpoints=endpoints)
    raise CloudError(ErrorKind.REJECTED, account.label, f"driver: {account.driver} is not supported; use openstack", no_effect=True)
