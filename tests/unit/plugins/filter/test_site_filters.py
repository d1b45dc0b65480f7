# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters of the site's playbooks: which names a certificate does not cover."""

from __future__ import annotations

import pytest
from ansible_collections.hep.distcloud.plugins.filter.site import missing_names


@pytest.mark.parametrize(
    ("desired", "carried", "missing"),
    [
        (["DNS:a.example.org", "IP:192.0.2.1"], ["IP:192.0.2.1", "DNS:other", "DNS:a.example.org"], []),
        (["DNS:a.example.org", "DNS:b.example.org"], ["DNS:b.example.org"], ["DNS:a.example.org"]),
        (["DNS:A.example.org"], ["DNS:a.Example.Org"], []),
        (["DNS:a.example.org"], None, ["DNS:a.example.org"]),
        # A wildcard covers exactly one whole label, and never a whole top-level domain.
        (["DNS:a.example.org"], ["DNS:*.Example.org"], []),
        (["DNS:a.b.example.org"], ["DNS:*.example.org"], ["DNS:a.b.example.org"]),
        (["DNS:example.org"], ["DNS:*.example.org"], ["DNS:example.org"]),
        (["DNS:example.org"], ["DNS:*.org"], ["DNS:example.org"]),
        (["DNS:abc.example.org"], ["DNS:a*.example.org"], ["DNS:abc.example.org"]),
        (["DNS:localhost"], ["DNS:*"], ["DNS:localhost"]),
        (["DNS:*.example.org"], ["DNS:*.example.org"], []),
        (["DNS:*.example.org"], ["DNS:a.example.org"], ["DNS:*.example.org"]),
        # Addresses are compared as such, and are no names.
        (["IP:2001:DB8:0:0::1"], ["IP:2001:db8::1"], []),
        (["IP:192.0.2.1"], ["DNS:192.0.2.1", "DNS:*.0.2.1", "IP:192.0.2.2"], ["IP:192.0.2.1"]),
        (["IP:no address"], ["IP:no address"], []),
        (["URI:urn:a", "email:a@example.org"], ["URI:urn:a", "email:A@example.org"], ["email:a@example.org"]),
    ],
)
def test_missing_names(desired, carried, missing):
    assert missing_names(desired, carried) == missing
