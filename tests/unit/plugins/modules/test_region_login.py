# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Messages of failed logins: a Keystone that is down is distinguished from a missing one, with and without a version in its URL."""

from __future__ import annotations

import typing as t

import pytest
import requests
import requests_mock
from ansible_collections.hep.distcloud.plugins.modules.region_resources_info import RegionResourcesInfo
from module_harness import run_module

ACCOUNT = {
    "username": "account-user",
    "password": "the-accounts-password",
    "project_name": "account-project",
    "user_domain_name": "Default",
    "project_domain_name": "Default",
}
UNTRUSTED = requests.exceptions.SSLError("certificate verify failed: unable to get local issuer certificate")


@pytest.mark.parametrize("url", ["https://keystone.test:5000", "https://keystone.test:5000/v3", "https://keystone.test/identity"])
@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        ({"exc": UNTRUSTED}, "tls", "set cacert in clouds.yaml to the CA's file"),
        ({"exc": requests.exceptions.ConnectionError("refused")}, "unreachable", "check that the region is up"),
        ({"exc": requests.exceptions.ConnectTimeout("late")}, "unreachable", "check that the region is up"),
        ({"status_code": 503}, "unreachable", "check that the region is up"),
        ({"status_code": 504}, 504, "504"),
        ({"status_code": 404, "text": "<html>no such page</html>"}, "no_keystone", "check it in clouds.yaml"),
    ],
)
def test_login_failures_name_the_cause(url: str, answer: dict[str, t.Any], code: str | int, words: str) -> None:
    with requests_mock.Mocker() as mocker:
        mocker.register_uri(requests_mock.ANY, requests_mock.ANY, **answer)
        result = run_module(RegionResourcesInfo, {"auth": {**ACCOUNT, "auth_url": url}, "region_name": "test"})
    assert result.failed and result.data["failure"]["code"] == code and words in result.data["msg"]
    assert "the-accounts-password" not in result.raw


def test_html_page_is_not_taken_for_keystone() -> None:
    with requests_mock.Mocker() as mocker:
        mocker.register_uri("GET", requests_mock.ANY, text="<html>Log in to the dashboard</html>")
        mocker.register_uri("POST", requests_mock.ANY, status_code=404)
        result = run_module(RegionResourcesInfo, {"auth": {**ACCOUNT, "auth_url": "https://dashboard.test"}, "region_name": "test"})
    assert result.failed and result.data["failure"]["code"] == "no_keystone"
