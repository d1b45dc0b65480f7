"""A dry run predicts the repair of drift in the roles and regions of a running site."""

from __future__ import annotations

import pytest
from playbook_changes import Playbook
from running_lab import ROOT, Lab
from site_secrets import secrets_of, shown

# Every task that has something to repair, and no other. The comment in HTCondor's file needs no reconfiguration, and the packet filter is
# loaded once, by the first role that opens a port.
REPAIRED = [
    "region-b: Create project, users, quotas, flavors and provider networks",
    "region-b: Create networks, routers, security groups and key pair",
    "central: Write the configuration files",
    "central: Load the packet filter",
    "region-b: Upload the worker image to the region",
    "central: Link the distcloud command",
    "central: Create the private key",
    "central: Configure scheduler",
    "central: Open the ports of scheduler",
    "central: Start or restart scheduler",
    "localhost: Configure the groups",
    "region-a: Register the region as a cloud of the scheduler's groups",
]


@pytest.mark.fault
def test_check_predicts_drift_repair_of_the_site(lab: Lab) -> None:
    """In every role and every region; the next test checks that a further run changes nothing."""
    lab.run(
        "central",
        """
        echo '# by hand' >> /etc/condor/config.d/50-fair-share.conf
        echo '# by hand' >> /etc/distcloud/scheduler/scheduler.yml
        chmod 0644 /etc/distcloud/scheduler/tls/scheduler.key
        rm /usr/local/bin/distcloud
        echo '# by hand' >> /etc/nftables.d/scheduler.nft
        nft delete table inet distcloud
        """,
    )
    admin, project = lab.cloud("region-b-admin"), lab.cloud("region-b").current_project_id
    admin.compute.update_quota_set(project, instances=7)
    group = lab.cloud("region-b").network.find_security_group("distcloud")
    admin.network.delete_security_group_rule(next(rule["id"] for rule in group.security_group_rules if rule["protocol"] == "icmp"))
    image = next(admin.image.images(owner=project))
    admin.image.delete_image(image.id)
    assert lab.api("PUT", "/v1/groups/physics", {"keep_alive": 5})[0] == 200
    assert lab.api("PUT", "/v1/groups/physics/clouds/region-a", {"max_vms": 3})[0] == 200

    site = Playbook(ROOT / "playbooks" / "site.yml", environment=lab.environment)
    predicted, applied = site.run("--check", "-vvv"), site.run("-vvv")
    assert not predicted.failures | applied.failures, (predicted.failures, applied.failures)
    assert predicted.changes == applied.changes
    assert not shown(predicted.output + applied.output, secrets_of(lab.state))
    print("\n".join(applied.changed))
    assert sorted(f"{change.host}: {change.task}" for change in applied.changes) == sorted(REPAIRED)
