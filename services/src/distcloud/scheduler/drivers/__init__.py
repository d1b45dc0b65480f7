"""The clouds: one protocol (`base.CloudDriver`) and one driver a kind of cloud."""

from __future__ import annotations

from .base import Account, CloudDriver, CloudError, ErrorKind
from .openstack import OpenStackDriver


def make_driver(account: Account) -> CloudDriver:
    """The driver for an account's kind of cloud. Raises CloudError for a kind that there is none for, or an unusable account."""
    if account.driver == "openstack":
        return OpenStackDriver(account)
    raise CloudError(ErrorKind.REJECTED, account.label, f"driver: there is none called {account.driver}; use openstack", no_effect=True)
