"""The worker's configuration and user data: contents, templates, rejected values."""

from __future__ import annotations

import base64
import email
import gzip
import io
import json
import sys
from dataclasses import replace
from email.message import Message
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from distcloud.scheduler.domain.model import Policy
from distcloud.scheduler.worker.__main__ import main
from distcloud.scheduler.worker.configuration import SettingsError, WorkerSettings, configuration, settings_for, worker_file
from distcloud.scheduler.worker.parts import MetadataPart, UserDataError, check_part, render_part, select_parts, template_variables
from distcloud.scheduler.worker.synthetic import parse
from distcloud.scheduler.worker.user_data import NOVA_LIMIT, compose

from ..support.strategies import cloud, vm

TOKEN = "eyJ.the.token"
KEY = b"the key \x00\xff\n"
WORKER = WorkerSettings(
    host="vm-abcdefghijklmnop",
    domain="distcloud.lab",
    condor_host="central.distcloud.lab",
    group="atlas",
    cloud="region-a",
    region="region-a",
    flavor="w512",
    image="worker",
    cores=2,
    memory_mib=448,
    central_address="10.203.0.10",
)


def messages(data: bytes) -> list[Message]:
    whole = email.message_from_bytes(gzip.decompress(data))
    assert whole.get_content_type() == "multipart/mixed"
    found = whole.get_payload()
    assert isinstance(found, list)
    return found  # type: ignore[return-value]


def text(message: Message) -> str:
    body = message.get_payload(decode=True)
    assert isinstance(body, bytes)
    return body.decode()


def contents(data: bytes) -> list[Any]:
    return [yaml.safe_load(text(each)) for each in messages(data) if each.get_content_type() == "text/cloud-config"]


def files(data: bytes) -> dict[str, dict[str, Any]]:
    return {each["path"]: each for each in contents(data)[0]["write_files"]}


def scripts(data: bytes) -> list[tuple[str, str]]:
    """Name and text of the scripts that cloud-init runs, in its order: sorted by name in one folder, `runcmd` last."""
    folder = {str(each.get_filename()): text(each).strip() for each in messages(data) if each.get_content_type() == "text/x-shellscript"}
    folder["runcmd"] = "starts condor"
    return sorted(folder.items())


def made(*parts: MetadataPart, worker: WorkerSettings = WORKER) -> bytes:
    rendered = [render_part(part, template_variables(worker)) for part in select_parts(parts, worker.cloud)]
    return compose(worker, rendered, token=TOKEN, drain_key=KEY)


class TestUserData:
    def test_secrets_are_root_only_and_byte_exact(self) -> None:
        written = files(made())
        token, key = written["/etc/condor/tokens.d/worker"], written[f"/etc/condor/passwords.d/{WORKER.host}"]
        assert (token["owner"], token["permissions"], token["content"]) == ("root:root", "0600", TOKEN + "\n")
        assert (key["owner"], key["permissions"]) == ("root:root", "0600")
        assert base64.b64decode(key["content"]) == KEY
        others = [json.dumps(each) for path, each in written.items() if each is not token and each is not key]
        assert not any(TOKEN in each for each in others)

    def test_condor_is_started_last_without_waiting(self) -> None:
        early = MetadataPart("early", "runcmd: [[mine]]\n", priority=-100)
        late = MetadataPart("late", "runcmd: [[yours]]\n", priority=100, scope="cloud")
        commands = [command for each in contents(made(late, early)) for command in each.get("runcmd", [])]
        assert commands == [["mine"], ["yours"], ["systemctl", "daemon-reload"], ["systemctl", "start", "--no-block", "condor"]]

    def test_parts_are_appended_and_ours_take_precedence(self) -> None:
        for each in messages(made(MetadataPart("x", "hostname: evil\n"))):
            assert each["Merge-Type"] == "list(append)+dict(no_replace,recurse_array)+str()"
        assert contents(made(MetadataPart("x", "hostname: evil\n")))[0]["hostname"] == WORKER.host

    def test_hosts_file_resolves_worker_and_pool(self) -> None:
        hosts = files(made())["/etc/hosts"]
        assert hosts["append"] is True
        assert "127.0.1.1 vm-abcdefghijklmnop.distcloud.lab vm-abcdefghijklmnop" in hosts["content"]
        assert "10.203.0.10 central.distcloud.lab central" in hosts["content"]
        assert "central" not in files(made(worker=replace(WORKER, central_address=None)))["/etc/hosts"]["content"]

    def test_missing_slot_users_are_created(self) -> None:
        commands = contents(made(worker=replace(WORKER, cores=10)))[-1]["runcmd"]
        assert [command[-1] for command in commands if command[0] == "useradd"] == ["slotu9", "slotu10"]

    def test_same_input_gives_same_bytes(self) -> None:
        assert made(MetadataPart("a", "packages: [x]\n")) == made(MetadataPart("a", "packages: [x]\n"))

    def test_non_ascii_and_scripts_are_preserved(self) -> None:
        script = "#!/bin/sh\necho é {{ cs_host_id }}\nFrom here\n"
        message = messages(made(MetadataPart("hello", script, mime_type="shell-script")))[1]
        assert message.get_content_type() == "text/x-shellscript"
        assert message.get_filename() == "1-hello"
        assert text(message).rstrip() == f"#!/bin/sh\necho é {WORKER.host}\nFrom here"

    def test_scripts_run_by_priority_before_condor(self) -> None:
        parts = [
            MetadataPart("a", "#!a", mime_type="x-shellscript", priority=2),
            MetadataPart("tune", "#!tune", mime_type="x-shellscript", priority=1),
            MetadataPart("runcmd", "#!runcmd", mime_type="x-shellscript"),
            MetadataPart("one", "#!of the group", mime_type="x-shellscript", priority=3),
            MetadataPart("one", "#!of the cloud", mime_type="x-shellscript", priority=3, scope="cloud"),
        ]
        ran = [script for _, script in scripts(made(*parts))]
        assert ran == ["#!runcmd", "#!tune", "#!a", "#!of the group", "#!of the cloud", "starts condor"]

    def test_order_of_many_scripts_is_kept(self) -> None:
        names = [f"s{number:04d}" for number in range(1100)]
        parts = [MetadataPart(name, f"#!{name}", mime_type="x-shellscript", priority=-place) for place, name in enumerate(names)]
        assert [script for _, script in scripts(made(*parts))] == [*(f"#!{name}" for name in reversed(names)), "starts condor"]

    @pytest.mark.parametrize("when", ["boot", "instance", "once"])
    def test_per_boot_scripts_run_as_plain_scripts(self, when: str) -> None:
        part = MetadataPart("tune", "#!tune", mime_type=f"text/x-shellscript-per-{when}")
        assert scripts(made(part)) == [("1-tune", "#!tune"), ("runcmd", "starts condor")]

    def test_parts_are_selected_and_ordered(self) -> None:
        parts = [
            MetadataPart("cloud-b", "", scope="cloud"),
            MetadataPart("b", ""),
            MetadataPart("a", ""),
            MetadataPart("first", "", priority=-1, scope="cloud"),
            MetadataPart("off", "", enabled=False),
            MetadataPart("elsewhere", "", excluded_clouds=("region-a",)),
        ]
        assert [part.name for part in select_parts(parts, "region-a")] == ["first", "a", "b", "cloud-b"]
        assert "elsewhere" in [part.name for part in select_parts(parts, "region-b")]

    def test_oversized_user_data_names_largest_parts(self) -> None:
        import random

        noise = "".join(random.Random(1).choices("0123456789abcdefghijklmnopqrstuvwxyz", k=120_000))
        with pytest.raises(
            UserDataError, match=r"group atlas on cloud region-a is \d+ characters .* 65535; largest parts: big \(120"
        ) as caught:
            made(MetadataPart("big", f"#!/bin/sh\n# {noise}\n", mime_type="shell-script"))
        assert TOKEN not in str(caught.value)
        assert len(base64.b64encode(made())) < NOVA_LIMIT / 5


class TestTemplates:
    def test_variables_have_cloud_scheduler_names(self) -> None:
        assert template_variables(replace(WORKER, alias="west")) == {
            "cs_user": "scheduler",
            "cs_host": "central.distcloud.lab",
            "cs_host_id": WORKER.host,
            "cs_group_name": "atlas",
            "cs_cloud_name": "region-a",
            "cs_cloud_type": "openstack",
            "cs_cloud_alias": "west",
            "cs_flavor": "w512",
            "cs_condor_host": "central.distcloud.lab",
        }

    def test_conditions_and_filters(self) -> None:
        source = "{% if cs_cloud_alias %}alias: {{ cs_cloud_alias }}{% else %}who: {{ cs_group_name | upper }}{% endif %}\n"
        assert contents(made(MetadataPart("x", source)))[1] == {"who": "ATLAS"}
        assert contents(made(MetadataPart("x", source), worker=replace(WORKER, alias="west")))[1] == {"alias": "west"}

    @pytest.mark.parametrize(
        "source",
        [
            "{{ cs_host.__class__.__mro__ }}",
            "{{ ''['__class__'] }}",
            "{{ cs_host | attr('__class__') }}",
            "{{ self.__init__.__globals__ }}",
            "{{ cycler.__init__ }}",
            "{{ lipsum() }}",
            "{{ range(9999999999) | join }}",
            "{{ 'a' * 9999999999 }}",
            "{{ 10 ** 10 ** 10 }}",
            "{{ '%99999999d' % 1 }}",
            "{{ 'a'.ljust(99999999999) }}",
            "{% for i in [1,2,3] %}{{ i }}{% endfor %}",
            "{% set a = 'b' %}",
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
            "{% include '/etc/passwd' %}",
            "{% import 'os' as os %}",
            "{{ cs_host ~ cs_host }}",
            "{{ config }}",
            "{{ unknown }}",
            "{{ cs_host",
            "{% if %}",
            "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
            "{{ cs_host" + "|upper" * 9 + " }}",
        ],
    )
    def test_hostile_templates_are_rejected_with_part_name(self, source: str) -> None:
        with pytest.raises(UserDataError, match="metadata rogue of the cloud"):
            made(MetadataPart("rogue", source, scope="cloud"))
        assert check_part(source, "cloud-config")

    @given(st.text(alphabet="{}%#'\"()[]|.ab_ \n0*~", max_size=60))
    @settings(max_examples=150, deadline=None)
    def test_any_template_is_rendered_or_rejected(self, source: str) -> None:
        try:
            made(MetadataPart("any", "#!/bin/sh\n" + source, mime_type="shell-script"))
        except UserDataError as problem:
            assert "metadata any of the group" in str(problem)

    @pytest.mark.parametrize(
        ("part", "message"),
        [
            (MetadataPart("p", "- a\n"), "must be a mapping"),
            (MetadataPart("p", "a: [\n"), "its YAML fails for this worker"),
            (MetadataPart("p", "a: 1", mime_type="nonsense"), "neither one of"),
            (MetadataPart('p"', "a: 1"), "plain ASCII"),
            (MetadataPart("p\nX: y", "a: 1"), "plain ASCII"),
            (MetadataPart("p", "a: 1", mime_type="text/x\r\nEvil: 1"), "plain ASCII"),
        ],
    )
    def test_invalid_parts_are_rejected(self, part: MetadataPart, message: str) -> None:
        with pytest.raises(UserDataError, match=message):
            render_part(part, template_variables(WORKER))


class TestConfiguration:
    def test_configuration_has_least_privilege(self) -> None:
        macros = parse("".join(configuration(WORKER).values()))
        assert macros["startd.allow_administrator"] == "condor@*, root@*, scheduler@distcloud.lab"
        assert macros["sec_default_authentication_methods"] == "FS, IDTOKENS"
        for name in ("sec_enable_remote_administration", "sec_enable_token_request", "sec_enable_token_fetch", "starter_allow_runas_owner"):
            assert macros[name] == "False"
        for name in ("sec_default_authentication", "sec_client_authentication", "sec_read_authentication", "sec_read_encryption"):
            assert macros[name] == "REQUIRED"
        assert macros["slot1_8_user"] == "slotu8"
        assert macros["ccb_address"] == "$(COLLECTOR_HOST)"
        assert int(macros["maxjobretirementtime"]) > 0
        assert macros["network_hostname"] == "vm-abcdefghijklmnop.distcloud.lab"

    def test_condor_waits_for_the_firewall(self) -> None:
        found = configuration(WORKER)
        assert "ExecStartPre=+/usr/sbin/nft -f /etc/distcloud/worker.nft" in found["/etc/systemd/system/condor.service.d/50-distcloud.conf"]
        assert "169.254.169.254 meta skuid != 0 reject" in found["/etc/distcloud/worker.nft"]
        static = configuration(replace(WORKER, firewall=False))
        assert "/etc/distcloud/worker.nft" not in static
        assert "nft" not in static["/etc/systemd/system/condor.service.d/50-distcloud.conf"]

    def test_settings_from_vm_cloud_and_policy(self) -> None:
        made_for = settings_for(
            vm(alias="west", keep_alive=99999),
            cloud(attributes={"Site": "here"}),
            domain="d.example",
            condor_host="c.d.example",
            policy=Policy(drain_timeout=777),
        )
        assert (made_for.host, made_for.vm_id, made_for.alias, made_for.region) == (vm().id, vm().id, "west", "r-a")
        assert (made_for.cores, made_for.memory_mib, made_for.retirement_seconds) == (1, 960, 777)
        assert made_for.slot_attributes()["Site"] == "here"
        assert made_for.slot_attributes()["target_alias"] == "west"
        assert "target_alias" not in replace(made_for, alias=None).slot_attributes()

    @pytest.mark.parametrize(
        ("of_job", "of_group", "policy"),
        [
            (None, 0, Policy()),
            (2_592_000, 300, Policy()),
            (None, 2_592_000, Policy()),
            (60, 2_592_000, Policy()),
            (None, 300, Policy(first_use_timeout=50_000)),
            (None, 300, Policy(minimum_keep_alive=50_000)),
        ],
    )
    def test_noclaim_shutdown_is_twice_the_longest_timeout(self, of_job: int | None, of_group: int, policy: Policy) -> None:
        made_for = settings_for(
            vm(keep_alive=of_job), cloud(), domain="d.example", condor_host="c.d.example", policy=policy, group_keep_alive=of_group
        )
        patience = max(of_job or 0, of_group, policy.minimum_keep_alive, policy.first_use_timeout, policy.registration_timeout)
        assert f"\nSTARTD_NOCLAIM_SHUTDOWN = {2 * patience}\n" in worker_file(made_for)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"host": "a b"}, "host: 'a b' is not a valid host name"),
            ({"domain": "x\nSTART = true"}, "domain"),
            ({"condor_host": ""}, "condor_host"),
            ({"group": "x\nSTART = true"}, "group: control characters"),
            ({"flavor": "x\ry"}, "attribute flavor: control characters"),
            ({"attributes": {"Site": "a\nb"}}, "attribute Site"),
            ({"attributes": {"START": "true"}}, "reserved for the scheduler or a configuration variable"),
            ({"attributes": {"startd.allow_administrator": "*"}}, "invalid name; use letters"),
            ({"attributes": {"condor_host": "evil"}}, "reserved for the scheduler or a configuration variable"),
            ({"attributes": {"Group_Name": "belle"}}, "reserved for the scheduler or a configuration variable"),
            ({"attributes": {"a b": "c"}}, "invalid name; use letters"),
            ({"scheduler_identity": "a@b, *"}, "must be one identity"),
            ({"central_address": "10.0.0.1 evil"}, "is not a valid IP address"),
        ],
    )
    def test_values_that_change_the_file_are_rejected(self, changes: dict[str, object], message: str) -> None:
        worker = replace(WORKER, **changes)  # type: ignore[arg-type]
        with pytest.raises(SettingsError, match=message):
            configuration(worker)
        with pytest.raises(UserDataError, match="cloud region-a"):
            made(worker=worker)

    def test_command_renders_static_worker(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        given_settings = {
            "host": "w1",
            "domain": "distcloud.lab",
            "condor_host": "central.distcloud.lab",
            "group": "test",
            "firewall": False,
        }
        monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(given_settings)))
        assert main([]) == 0
        assert set(json.loads(capsys.readouterr().out)) == set(configuration(WorkerSettings(**given_settings)))  # type: ignore[arg-type]
        monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(given_settings)))
        assert main(["--file", "50-distcloud-worker.conf"]) == 0
        assert "NUM_CPUS" not in capsys.readouterr().out  # HTCondor detects what is not set

    @pytest.mark.parametrize(
        ("given_text", "message"),
        [
            ("{", "expected a JSON object"),
            ("[]", "expected a JSON object"),
            ('{"hots": 1}', "unknown keys: hots"),
            ("{}", "missing keys: condor_host"),
            ('{"\\u001b[2J": 1}', "unknown keys: ?[2J; known"),
        ],
    )
    def test_command_reports_invalid_input(
        self, given_text: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO(given_text))
        assert main([]) == 2
        assert message in capsys.readouterr().err
