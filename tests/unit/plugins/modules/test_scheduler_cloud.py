# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module scheduler_cloud against replayed HTTP: the common matrix, and hidden secrets."""

from __future__ import annotations

import socket
import ssl
from urllib.error import URLError

import pytest
from ansible_collections.hep.distcloud.plugins.modules.scheduler_cloud import SchedulerCloud
from api_cases import CONNECTION, MODES, Case, run_case
from api_replay import Call, problem, replay
from module_harness import run_module

PATH = "/v1/groups/atlas/clouds/victoria"
SECRET = "unmistakable-secret"
AUTH = {"auth_url": "https://k/v3", "application_credential_id": "id", "application_credential_secret": SECRET}
SHOWN = dict(AUTH, application_credential_secret="********", auth_type="v3applicationcredential")
OLD = {"group": "atlas", "name": "victoria", "region": "Victoria", "auth": SHOWN, "enabled": False, "priority": 0}
NEW = dict(OLD, priority=5)
NAMED = {"group": "atlas", "name": "victoria"}
CASES = {
    "create": Case(dict(NAMED, region="Victoria", auth=AUTH), {"region": "Victoria", "auth": AUTH}, None, OLD),
    "no-op": Case(dict(NAMED, auth=AUTH), {"auth": AUTH}, OLD, OLD),
    "update": Case(dict(NAMED, priority=5), {"priority": 5}, OLD, NEW),
    "disable": Case(dict(NAMED, enabled=False), {"enabled": False}, dict(OLD, enabled=True), OLD),
    "secret": Case(dict(NAMED, auth=AUTH), {"auth": AUTH}, OLD, OLD, ("auth.application_credential_secret",)),
    "empty list": Case(dict(NAMED, security_groups=[]), {"security_groups": []}, OLD, NEW),
    "reset": Case(dict(NAMED, reset=["priority"]), {"priority": None}, NEW, OLD),
    "delete": Case(dict(NAMED, state="absent"), None, OLD, None),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES)
def test_matrix(case, mode):
    result = run_case(SchedulerCloud, PATH, CASES[case], mode)
    assert SECRET not in result.raw.replace("invocation", "")


def test_changed_secret_is_reported_but_hidden():
    result = run_case(SchedulerCloud, PATH, CASES["secret"], "check and diff")
    before, after = result.data["diff"]["before"], result.data["diff"]["after"]
    assert before["auth"]["application_credential_secret"] != after["auth"]["application_credential_secret"]
    assert SECRET not in result.raw


def test_unset_enabled_keeps_cloud_disabled():
    answer = {"changed": False, "before": OLD, "after": OLD, "changed_secrets": []}
    with replay(Call("PUT", PATH + "?dry_run=true", answer, {})):
        assert not run_module(SchedulerCloud, dict(CONNECTION, **NAMED)).changed


REFUSED = ConnectionRefusedError(111, "Connection refused")


@pytest.mark.parametrize(
    ("call", "code", "word"),
    [
        (Call("PUT", PATH + "?dry_run=true", problem(403, "scope", "needs cloud_admin"), {}, status=403), 403, "needs cloud_admin"),
        (Call("PUT", PATH + "?dry_run=true", b"<html>", {}, status=502), 502, "check that api_url is the address"),
        (Call("PUT", PATH + "?dry_run=true", b"<html>", {}), "not_json", "check that api_url is the address"),
        (Call("PUT", PATH + "?dry_run=true", b"", {}, status=302), "not_json", "check that api_url is the address"),
        (Call("PUT", PATH + "?dry_run=true", URLError(REFUSED), {}), "refused", "check that it is running"),
        (Call("PUT", PATH + "?dry_run=true", URLError(socket.timeout("timed out")), {}), "timeout", "30 s"),
        (Call("PUT", PATH + "?dry_run=true", URLError(socket.gaierror(-2, "Name not known")), {}), "unreachable", "Name not known"),
    ],
)
def test_failures_name_service_cause_and_remedy(call, code, word):
    with replay(call):
        result = run_module(SchedulerCloud, dict(CONNECTION, **NAMED))
    assert result.failed
    assert result.data["failure"]["service"] == "scheduler"
    assert result.data["failure"]["code"] == code
    assert word in result.data["msg"]
    assert "a-token" not in result.raw


def test_untrusted_certificate_error_names_option():
    error = ssl.SSLCertVerificationError(1, "verify failed")
    error.verify_message = "self-signed certificate"
    with replay(Call("PUT", PATH + "?dry_run=true", URLError(error), {})):
        result = run_module(SchedulerCloud, dict(CONNECTION, **NAMED))
    assert "ca_path" in result.data["msg"]
    assert result.data["failure"]["code"] == "certificate"


def test_result_has_request_id():
    body = problem(500, "internal", "failed")
    with replay(Call("PUT", PATH + "?dry_run=true", body, {}, status=500, headers={"X-Request-Id": "abc12345"})):
        result = run_module(SchedulerCloud, dict(CONNECTION, **NAMED))
    assert result.data["failure"]["details"]["request_id"] == "abc12345"


@pytest.mark.parametrize(
    "call",
    [
        Call("PUT", PATH + "?dry_run=true", URLError(REFUSED), {"region": "Victoria", "auth": AUTH}),
        Call("PUT", PATH + "?dry_run=true", problem(404, "no-such-group", "no group"), {"region": "Victoria", "auth": AUTH}, status=404),
    ],
)
def test_check_mode_works_before_first_deployment(call):
    with replay(call):
        result = run_module(SchedulerCloud, dict(CONNECTION, region="Victoria", auth=AUTH, **NAMED), check=True, diff=True)
    assert not result.failed, result.raw
    assert result.changed
    assert result.warnings
    assert SECRET not in result.raw
    assert result.data["diff"]["before"] == {}
    with replay(call):
        assert run_module(SchedulerCloud, dict(CONNECTION, region="Victoria", auth=AUTH, **NAMED)).failed


@pytest.mark.parametrize(("check", "draining"), [(True, False), (False, False), (False, True)])
def test_cloud_with_vms_is_drained_first(check, draining):
    """`draining`: an earlier call froze it and drains its VMs."""
    alive = problem(409, "vms-alive", "cloud atlas/victoria still has 2 VMs")
    calls = [Call("DELETE", PATH + "?dry_run=true", alive, status=409), Call("GET", PATH, OLD)]
    if not check:
        calls += [
            Call("DELETE", PATH, alive, status=409),
            Call("PUT", PATH, {"changed": not draining, "before": OLD, "after": OLD, "changed_secrets": []}, {"frozen": True}),
            Call("POST", PATH + "/retire", {"changed": not draining, "retired": [] if draining else ["vm-a", "vm-b"], "alive": 2}),
        ]
    with replay(*calls):
        result = run_module(SchedulerCloud, dict(CONNECTION, state="absent", drain=True, **NAMED), check=check)
    assert result.failed is not check
    assert result.changed is (check or not draining)
    if not check:
        assert result.data["failure"] == {"service": "scheduler", "code": 409, "details": {"type": "draining", "alive": 2}}


def test_cloud_with_vms_is_unchanged_without_drain():
    with replay(Call("DELETE", PATH + "?dry_run=true", problem(409, "vms-alive", "still has 2 VMs"), status=409)):
        result = run_module(SchedulerCloud, dict(CONNECTION, state="absent", **NAMED))
    assert result.failed
    assert "2 VMs" in result.data["msg"]
