"""The two firewalls of a worker, the image's and the scheduler's, loaded into a network namespace: both allow the same."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import Environment, StrictUndefined

ROOT = Path(__file__).resolve().parents[3]
ROLE = ROOT / "roles" / "worker_image"
SCHEDULERS = ROOT / "services" / "src" / "distcloud" / "scheduler" / "worker" / "templates" / "worker.nft.j2"
FOLDER = "/etc/distcloud/worker.nft.d"
EXCEPTIONS = ("meta skuid 1 th dport 53 accept", "meta skuid 2 udp dport 123 accept")

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("nft") or not shutil.which("unshare"), reason="needs root, nft and unshare"
)


def rendered(name: str, **variables: Any) -> str:
    environment = Environment(trim_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined)
    environment.filters["comment"] = lambda text: f"# {text}"
    text = (ROLE / "templates" / name).read_text()
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    return environment.from_string(text).render({**defaults, "ansible_managed": "by a test", **variables})


def chains(*files: Path) -> dict[str, list[str]]:
    """Load the files and return the rules by table and chain. They are loaded twice, as on a worker whose HTCondor is restarted."""
    nft = "; ".join(f"nft -f {file}" for file in files * 2)
    done = subprocess.run(["unshare", "--net", "sh", "-ec", f"{nft}; nft -n list ruleset"], capture_output=True, text=True, check=False)
    if "Operation not permitted" in done.stderr:
        pytest.skip("this machine lets nobody make a network namespace")
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = {}
    table = chain = ""
    for line in map(str.strip, done.stdout.splitlines()):
        if line.startswith("table "):
            table = line.split()[2]
        elif line.startswith("chain "):
            chain = f"{table} {line.split()[1]}"
            found[chain] = []
        elif line not in ("", "}"):
            found[chain].append(line)
    return found


@pytest.fixture
def write_files(tmp_path: Path) -> Any:
    """Write the image's file with these variables, and the scheduler's; returns both paths, the image's first."""

    def write(**variables: Any) -> tuple[Path, Path]:
        folder = tmp_path / "worker.nft.d"
        folder.mkdir()
        # Accounts of the image, which this machine may not have.
        (folder / "input.nft").write_text(rendered("nft-input.conf.j2", **variables))
        metadata = rendered("nft-metadata.conf.j2", **variables).replace('"systemd-resolve"', "1").replace('"_chrony"', "2")
        (folder / "metadata.nft").write_text(metadata)
        image, scheduler = tmp_path / "nftables.conf", tmp_path / "worker.nft"
        image.write_text(rendered("nftables.conf.j2", **variables).replace(FOLDER, str(folder)))
        scheduler.write_text(SCHEDULERS.read_text().replace(FOLDER, str(folder)))
        return image, scheduler

    return write


def test_inbound_is_closed_by_default(write_files: Any) -> None:
    found = chains(*write_files())
    for chain in ("worker input", "distcloud_worker input"):
        assert any("policy drop" in rule for rule in found[chain])
        assert not any("tcp dport" in rule for rule in found[chain])


def test_open_port_is_open_in_both_firewalls(write_files: Any) -> None:
    found = chains(*write_files(worker_image_inbound_tcp_ports=[22, 9100]))
    for chain in ("worker input", "distcloud_worker input"):
        assert "tcp dport { 22, 9100 } accept" in found[chain]


def test_dns_and_ntp_pass_jobs_do_not(write_files: Any) -> None:
    found = chains(*write_files())
    assert found["worker metadata"] == ["meta skuid 0 accept", *EXCEPTIONS, "reject with icmpx 3"]
    assert "ip daddr 169.254.169.254 jump metadata" in found["worker output"]
    output = found["distcloud_worker output"][1:]
    assert output[:2] == list(EXCEPTIONS), "before the refusal"
    assert output[2].startswith("ip daddr 169.254.169.254 meta skuid != 0 reject")
    assert not any("accept" in rule for rule in output[2:])


def test_firewall_works_without_the_images_files(write_files: Any, tmp_path: Path) -> None:
    _image, scheduler = write_files()
    shutil.rmtree(tmp_path / "worker.nft.d")
    found = chains(scheduler)
    assert [rule for rule in found["distcloud_worker input"] if "dport" in rule] == ['udp dport { 68, 546 } accept comment "DHCP replies"']
    assert not any("accept" in rule for rule in found["distcloud_worker output"][1:])
