# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""region_credential: created once, replaced only on request, completed after a crash, rotated, pruned, removed, on replayed HTTP."""

from __future__ import annotations

import copy
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.hep.distcloud.plugins.modules.region_credential import RegionCredential
from module_harness import Result, run_module
from region_replay import LOGIN, Call, replay

PATH = "/users/user-1/application_credentials"
RULES = [
    {"service": "compute", "method": "GET", "path": "/v2.1/limits"},
    {"service": "compute", "method": "DELETE", "path": "/v2.1/servers/*"},
    {"service": "image", "method": "GET", "path": "/v2/images"},
]
SECRET = "a-secret-that-nobody-may-see"
MODES = [(False, False), (True, False), (False, True), (True, True)]
TRIED = [Call("GET", "compute", "/limits", {}), Call("GET", "image", "/images", {})]


def entry(generation: int = 1, **more: t.Any) -> dict[str, t.Any]:
    found = {
        "id": f"c{generation}",
        "name": f"distcloud-scheduler-{generation}",
        "description": "Used by scheduler [distcloud]",
        "access_rules": [],
    }
    return {**found, **more}


def listing(*entries: dict[str, t.Any]) -> Call:
    return Call("GET", "identity", PATH, {"application_credentials": list(entries)})


def creation(generation: int = 1, **more: t.Any) -> Call:
    return Call("POST", "identity", PATH, {"application_credential": entry(generation, **more)}, 201)


def run(path: Path, check: bool = False, diff: bool = False, **more: t.Any) -> Result:
    options = {
        **copy.deepcopy(LOGIN),
        "name": "scheduler",
        "path": str(path),
        "region": "region-x",
        "access_rules": copy.deepcopy(RULES),
        **more,
    }
    return run_module(RegionCredential, options, check=check, diff=diff)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "credentials" / "x-scheduler.yml"


def store(path: Path, generation: int = 1, **more: t.Any) -> dict[str, t.Any]:
    """A file as an earlier run left it."""
    document = {
        "region": "region-x",
        "service": "scheduler",
        "name": f"distcloud-scheduler-{generation}",
        "generation": generation,
        "auth_url": LOGIN["auth"]["auth_url"],
        "region_name": "test",
        "interface": "public",
        "cacert": None,
        "project_id": "project-1",
        "application_credential_id": f"c{generation}",
        "application_credential_secret": SECRET,
        "expires_at": "2098-01-01T00:00:00Z",
        "roles": ["member"],
        "with_access_rules": True,
        "access_rules_requested": RULES,
        "previous": [],
        **more,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(document))
    return document


@pytest.mark.parametrize("diff", [False, True])
def test_made_and_written_for_others_to_use(path: Path, diff: bool) -> None:
    with replay(listing(), creation(), *TRIED) as region:
        result = run(path, diff=diff)
    assert result.changed, result.raw
    document = yaml.safe_load(path.read_text())
    assert document["application_credential_id"] == "c1" and document["with_access_rules"] is True
    assert {"region", "auth_url", "region_name", "project_id", "expires_at", "cacert"} <= set(document)
    assert document["application_credential_secret"] not in result.raw
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    assert not list(path.parent.glob("*.pending")) and len(region.seen) == 4


@pytest.mark.parametrize("diff", [False, True])
def test_check_mode_creates_nothing(path: Path, diff: bool) -> None:
    with replay(listing()):
        result = run(path, check=True, diff=diff)
    assert result.changed and result.data["credential"]["name"] == "distcloud-scheduler-1"
    assert not path.parent.exists()


@pytest.mark.parametrize("check,diff", MODES)
def test_second_run_changes_nothing(path: Path, check: bool, diff: bool) -> None:
    store(path)
    before = path.read_text()
    with replay(listing(entry())):
        result = run(path, check, diff)
    assert not result.changed and not result.failed, result.raw
    assert path.read_text() == before and SECRET not in result.raw


def test_request_has_rules_roles_and_expiry(path: Path) -> None:
    with replay(listing(), creation(), *TRIED) as region:
        sent: dict[str, t.Any] = {}
        original = region.answer

        def spy(request: t.Any, context: t.Any) -> t.Any:
            if request.method == "POST":
                sent.update(request.json()["application_credential"])
            return original(request, context)

        region.answer = spy  # type: ignore[method-assign]
        region.mocker.register_uri("POST", LOGIN["auth"]["auth_url"] + PATH, json=spy)
        run(path, roles=["reader"])
    assert sent["unrestricted"] is False and sent["roles"] == [{"name": "reader"}] and sent["access_rules"] == RULES
    assert sent["expires_at"].endswith("T00:00:00.000000Z") and len(sent["secret"]) >= 48


def test_rules_contain_project_id_of_catalog_urls(path: Path) -> None:
    """As in many older regions: the scheduler uses the catalog's URLs, and a rule without the project id would refuse all its calls."""
    rules = [{**rule, "path": rule["path"].replace("/v2.1", "/v2.1/project-1")} for rule in RULES]
    tried = [Call("GET", "compute", "/project-1/limits", {}), Call("GET", "image", "/images", {})]
    with replay(listing(), creation(), *tried, catalog={"compute": "http://region.test:8774/v2.1/project-1"}) as region:
        result = run(path)
        sent = next(
            request for request in region.mocker.request_history if request.method == "POST" and request.path.endswith("_credentials")
        )
    assert result.changed and sent.json()["application_credential"]["access_rules"] == rules
    assert yaml.safe_load(path.read_text())["access_rules_requested"] == RULES
    with replay(listing(entry()), catalog={"compute": "http://region.test:8774/v2.1/project-1"}):
        assert not run(path).changed


def test_interrupted_creation_completes_with_same_secret(path: Path) -> None:
    with replay(listing(), Call("POST", "identity", PATH, {"error": {"message": "oops"}}, 500)):
        assert run(path).failed
    pending = yaml.safe_load(Path(f"{path}.pending").read_text())
    assert not path.exists() and pending["application_credential_secret"]
    with replay(listing(entry()), *TRIED):  # Keystone had created it: nothing is created twice
        assert run(path).changed
    document = yaml.safe_load(path.read_text())
    assert document["application_credential_secret"] == pending["application_credential_secret"]
    assert document["application_credential_id"] == "c1" and not Path(f"{path}.pending").exists()


def test_lost_file_is_reported_and_nothing_created(path: Path) -> None:
    with replay(listing(entry(3))):
        result = run(path)
    assert result.failed and result.data["failure"]["code"] == "lost" and "rotate_credentials" in result.data["msg"]


def test_one_that_vanished_from_keystone_is_recreated(path: Path) -> None:
    store(path, 2)
    with replay(listing(), creation(3), *TRIED):
        result = run(path)
    assert result.changed and result.data["credential"]["name"] == "distcloud-scheduler-3"
    assert "no longer in Keystone" in result.raw


@pytest.mark.parametrize(
    "given,word", [({"expires_at": "2026-01-02T00:00:00Z"}, "expired"), ({"application_credential_id": "other"}, "no longer")]
)
def test_expired_is_a_failure_and_vanished_is_not(path: Path, given: dict[str, t.Any], word: str) -> None:
    store(path, **given)
    calls = [listing(entry())] if word == "expired" else [listing(entry()), creation(2), *TRIED]
    with replay(*calls):
        result = run(path)
    assert result.failed is (word == "expired") and word in result.raw


def test_changed_rules_are_reported_and_not_applied(path: Path) -> None:
    store(path)
    with replay(listing(entry())):
        result = run(path, access_rules=RULES[:1])
    assert not result.changed and "was created with other access_rules" in result.raw


@pytest.mark.parametrize("check,diff", MODES)
@pytest.mark.parametrize("field,old", [("auth_url", "http://region.test:35357/v3"), ("cacert", "/old/ca.pem"), ("region_name", "r")])
def test_moved_region_keeps_credential_and_updates_file(path: Path, field: str, old: str, check: bool, diff: bool) -> None:
    now = store(path)[field]
    document = store(path, **{field: old})
    with replay(listing(entry())):
        result = run(path, check, diff)
    # What an inline auth says is hidden as a whole; by cloud it is read from clouds.yaml.
    shown = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER" if field == "auth_url" else now
    assert result.changed and SECRET not in result.raw
    assert (result.data["diff"]["before"][field], result.data["diff"]["after"][field]) == (old, shown)
    assert yaml.safe_load(path.read_text()) == (document if check else {**document, field: now})
    if not check:
        assert path.stat().st_mode & 0o777 == 0o600
        with replay(listing(entry())):
            assert not run(path).changed


def test_another_project_is_reported(path: Path) -> None:
    store(path, project_id="project-0")
    with replay(listing(entry())):
        result = run(path)
    assert not result.changed and "was created with other project" in result.raw


@pytest.mark.parametrize("refusing", ["compute", "image"])
def test_region_without_access_rules_gets_warning(path: Path, refusing: str) -> None:
    tried = [Call("GET", "compute", "/limits", {}, 401 if refusing == "compute" else 200)]
    if refusing == "image":
        tried.append(Call("GET", "image", "/images", {}, 401))
    made = creation(1, access_rules=[{"id": "rule-1"}])
    removed = [
        Call("DELETE", "identity", PATH + "/c1", status=204),
        Call("DELETE", "identity", "/users/user-1/access_rules/rule-1", status=204),
    ]
    with replay(listing(), made, *tried, *removed, creation(1)):
        result = run(path)
    assert result.changed and result.data["credential"]["with_access_rules"] is False
    assert "does not support access rules" in result.raw and refusing in result.raw
    assert yaml.safe_load(path.read_text())["with_access_rules"] is False
    with replay(listing(entry())):  # which does not count as drift
        second = run(path)
    assert not second.changed and "created with other" not in second.raw


UNKNOWN = "Additional properties are not allowed ('%s' was unexpected)"


def test_old_keystone_gets_credential_without_rules(path: Path) -> None:
    refusal = Call("POST", "identity", PATH, {"error": {"message": UNKNOWN % "access_rules"}}, 400)
    with replay(listing(), refusal, creation()):
        result = run(path)
    assert result.changed and result.data["credential"]["with_access_rules"] is False


def test_rejected_rules_are_not_dropped(path: Path) -> None:
    refusal = Call("POST", "identity", PATH, {"error": {"message": "Invalid input for field 'access_rules/0': " + UNKNOWN % "pth"}}, 400)
    with replay(listing(), refusal):
        result = run(path)
    assert result.failed and "access_rules/0" in result.data["msg"]


def test_no_fall_back_where_it_is_not_wanted(path: Path) -> None:
    calls = [listing(), creation(), Call("GET", "compute", "/limits", {}, 401), Call("DELETE", "identity", PATH + "/c1", status=204)]
    with replay(*calls):
        result = run(path, fallback=False)
    assert result.failed and result.data["failure"]["code"] == "no_access_rules" and "service_type" in result.data["msg"]


@pytest.mark.parametrize("check,diff", MODES)
def test_rotated_then_pruned(path: Path, check: bool, diff: bool) -> None:
    store(path)
    with replay(listing(entry()), *([] if check else [creation(2), *TRIED])):
        result = run(path, check, diff, state="rotated")
    assert result.changed and result.data["credential"]["name"] == "distcloud-scheduler-2"
    assert result.data["credential"]["superseded"] == ["distcloud-scheduler-1"]
    document = yaml.safe_load(path.read_text())
    assert document["application_credential_id"] == ("c1" if check else "c2")
    if check:
        return
    with replay(listing(entry(1), entry(2))):  # asked again before the hand-over: completed, not restarted
        assert not run(path, state="rotated").changed
    with replay(listing(entry(1), entry(2))):
        assert run(path, check=True, diff=diff, state="pruned").changed
    with replay(listing(entry(1), entry(2)), Call("DELETE", "identity", PATH + "/c1", status=204)):
        assert run(path, diff=diff, state="pruned").changed
    with replay(listing(entry(2))):
        assert not run(path, state="pruned").changed


def test_rotation_brings_a_lost_file_back(path: Path) -> None:
    with replay(listing(entry(4)), creation(5), *TRIED):
        assert run(path, state="rotated").changed
    assert yaml.safe_load(path.read_text())["previous"] == ["c4"]


@pytest.mark.parametrize("check,diff", MODES)
def test_removed_and_others_left(path: Path, check: bool, diff: bool) -> None:
    store(path)
    others = [entry(1, id="x1", description="mine, by hand"), entry(1, id="x2", name="distcloud-other-1")]
    with replay(listing(entry(), *others), *([] if check else [Call("DELETE", "identity", PATH + "/c1", status=204)])):
        result = run(path, check, diff, state="absent")
    assert result.changed and path.exists() is check and SECRET not in result.raw


@pytest.mark.parametrize("check,diff", MODES)
def test_nothing_to_remove(path: Path, check: bool, diff: bool) -> None:
    with replay(listing()):
        assert not run(path, check, diff, state="absent").changed


def test_account_without_permission_gets_the_reason(path: Path) -> None:
    with replay(listing(), Call("POST", "identity", PATH, {"error": {"message": "not allowed"}}, 403)):
        result = run(path)
    assert result.failed and "unrestricted" in result.data["msg"]


def test_check_mode_accepts_missing_account(path: Path) -> None:
    with replay(login=401):
        result = run(path, check=True, login_pending=True)
    assert result.changed and "check mode assumes" in result.raw


@pytest.mark.parametrize(("check", "pending"), [(False, False), (True, False), (False, True)])
def test_refused_login_fails_in_check_mode_too(path: Path, check: bool, pending: bool) -> None:
    with replay(login=401):
        result = run(path, check, login_pending=pending)
    assert result.failed and result.data["failure"]["code"] == 401 and not result.changed


@pytest.mark.parametrize(
    "options,field",
    [
        ({"access_rules": [{"service": "compute", "method": "GET", "path": "v2.1"}]}, "access_rules[0].path"),
        ({"expires_in": -1}, "expires_in"),
    ],
)
def test_bad_input_names_the_field(path: Path, options: dict[str, t.Any], field: str) -> None:
    with replay() as region:
        result = run(path, **options)
    assert result.failed and result.data["failure"]["details"]["field"] == field and not region.seen


def test_error_names_damaged_file(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("a: [")
    with replay():
        result = run(path)
    assert result.failed and str(path) in result.data["msg"]
