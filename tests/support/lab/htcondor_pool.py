"""Access to the scenario's pool: hosts by SSH, tokens, jobs. Groups and users are atlas: alice, carol; belle: bob, alice."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml
from lab_access import wait

DOMAIN = "distcloud.lab"
# The address in slot ads that a test makes up: one that no host has.
NOWHERE = "<192.0.2.1:9618>"
# A drain waits for the job however long it runs.
DRAIN_SECONDS = int(os.environ.get("DISTCLOUD_DRAIN_SECONDS", "120"))
TOKENS = "/var/lib/distcloud/scheduler/condor/tokens.d"
WALL = (
    "table inet test_wall { chain input { type filter hook input priority -10; policy drop; "
    "ct state established,related accept; iif lo accept; tcp dport 22 accept; }; }"
)


@dataclass(frozen=True)
class Done:
    """Result of a command."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


class Host:
    """One host of the pool, as root over SSH."""

    def __init__(self, name: str, reached: dict[str, str]) -> None:
        self.address = reached["ansible_host"]
        self.fqdn = f"{name}.{DOMAIN}"
        self.name = name
        control = Path(tempfile.gettempdir()) / f"distcloud-pool-{os.getpid()}-%h"
        shared = ["-o", "ControlMaster=auto", "-o", f"ControlPath={control}", "-o", "ControlPersist=60", "-o", "BatchMode=yes"]
        key = ["-i", reached["ansible_ssh_private_key_file"], *shlex.split(reached["ansible_ssh_common_args"])]
        self._ssh = ["ssh", *key, *shared, f"root@{self.address}"]

    def run(self, command: str, *, user: str = "root", stdin: str = "", timeout: float = 120) -> Done:
        """Run a shell command; it may fail."""
        if user != "root":
            command = f"cd / && runuser -u {user} -- sh -c {shlex.quote(command)}"
        done = subprocess.run([*self._ssh, command], input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
        return Done(done.returncode, done.stdout, done.stderr)

    def ok(self, command: str, *, user: str = "root", stdin: str = "", timeout: float = 120) -> str:
        """Run a shell command that must succeed; returns its standard output."""
        done = self.run(command, user=user, stdin=stdin, timeout=timeout)
        assert done.code == 0, f"{self.name}: {command} ended with {done.code}\n{done.text}"
        return done.out.strip()

    def write(self, path: str, text: str, *, owner: str = "root", mode: str = "0600") -> None:
        self.ok(f"umask 077; cat > {path} && chown {owner}: {path} && chmod {mode} {path}", stdin=text)


class Pool:
    """The central manager, a submit node and two static workers; the first worker is drained while the tests use the other."""

    def __init__(self, inventory: Path) -> None:
        hosts = yaml.safe_load(inventory.read_text())["all"]["children"]["scratch"]["hosts"]
        self.central, self.submit_node, *self.workers = (
            Host(name, hosts[name]) for name in ("ht-central", "ht-submit", "ht-worker-1", "ht-worker-2")
        )

    def token(self, identity: str, *authorizations: str, lifetime: int = 600) -> str:
        """A token signed with the pool's key."""
        flags = " ".join(f"-authz {name}" for name in authorizations)
        return self.central.ok(f"condor_token_create -key POOL -identity {identity}@{DOMAIN} {flags} -lifetime {lifetime}")

    def as_worker(self, worker: Host, command: str, token: str | None = None) -> Done:
        """Run a command on a worker; it can authenticate only by token, by default the worker's own."""
        where = "/etc/condor/tokens.d"
        if token is not None:
            where = "/root/tokens"
            worker.ok(f"rm -rf {where}; install -d -m 0700 {where}")
            if token:
                worker.write(f"{where}/one", token)
        settings = f"_CONDOR_SEC_CLIENT_AUTHENTICATION_METHODS=IDTOKENS _CONDOR_SEC_TOKEN_SYSTEM_DIRECTORY={where}"
        return worker.run(f"export {settings}; {command}")

    def as_scheduler(self, command: str) -> Done:
        """Run a command on the central manager as the engine's Unix user; it can authenticate only by the scheduler's token."""
        settings = f"_CONDOR_SEC_CLIENT_AUTHENTICATION_METHODS=IDTOKENS _CONDOR_SEC_TOKEN_DIRECTORY={TOKENS}"
        return self.central.run(f"export {settings}; {command}", user="distcloud-scheduler")

    def submit(self, user: str, *lines: str, executable: str = "/bin/sleep", arguments: str = "1", count: int = 1) -> Done:
        """Submit jobs as an ordinary user; the first word of the output is the first job's id."""
        head = [f"executable = {executable}", f"arguments = {arguments}", "should_transfer_files = yes"]
        text = "\n".join([*head, *lines, f"queue {count}", ""])
        return self.submit_node.run(f"cd ~{user} && condor_submit -terse -", user=user, stdin=text)

    def cluster(self, user: str, *lines: str, executable: str = "/bin/sleep", arguments: str = "1", count: int = 1) -> int:
        """Submit jobs that must be accepted; returns the cluster id."""
        done = self.submit(user, *lines, executable=executable, arguments=arguments, count=count)
        assert done.code == 0, done.text
        return int(done.out.split()[0].split(".")[0])

    def attribute(self, cluster: int, *names: str) -> list[list[str]]:
        """Attributes of a cluster's jobs, from the queue or the history."""
        format_flags = f"-af:t {' '.join(names)}"
        found = self.submit_node.ok(f"condor_q -all {cluster} {format_flags}; condor_history {cluster} {format_flags}")
        return [line.split("\t") for line in found.splitlines()]

    def slots(self, worker: Host) -> list[str]:
        return self.central.ok(f"condor_status -constraint 'Machine == \"{worker.fqdn}\"' -af Name").split()

    def clear(self) -> None:
        """Remove all jobs except the one on the draining worker, and all slot ads that tests invented."""
        ours = "-constraint 'OutlivesTests =!= true'"

        def empty() -> bool:
            return self.submit_node.ok(f"condor_q -all {ours} -af ClusterId") == ""

        self.submit_node.run(f"condor_rm {ours}")
        # By force only what does not go: the queue would forget jobs that a worker goes on with for minutes.
        try:
            wait("the removed jobs are gone", empty, 30)
        except AssertionError:
            self.submit_node.run(f"condor_rm {ours} -forcex")
        wait("the queue is empty", empty, 180)
        self.forget(f'MyAddress == "{NOWHERE}"')

    def forget(self, which: str) -> None:
        """Remove slot ads from the collector, as the scheduler does."""
        self.central.write(
            "/tmp/forget", f'MyType = "Query"\nTargetType = "Machine"\nRequirements = {which}\n', owner="distcloud-scheduler"
        )
        done = self.as_scheduler("condor_advertise -tcp INVALIDATE_STARTD_ADS /tmp/forget")
        assert done.code == 0, done.text
        wait(f"no slot ad has {which}", lambda: self.central.ok(f"condor_status -constraint '{which}' -af Name") == "", 60)


@dataclass(frozen=True)
class Drain:
    """An unreachable worker with a running job that is draining, and a later job that waits for the same worker."""

    worker: Host
    job: int
    later: int
