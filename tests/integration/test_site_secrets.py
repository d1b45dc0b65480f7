"""After a run, no secret of the site stands in a journal, a log or a process list of its hosts, nor in the output of the playbooks.

The runner deploys lab and site with `-vvv --diff`; the runs of test_site_drift and test_site are searched there.
"""

from __future__ import annotations

import pytest
from runner.steps import LOGS
from running_lab import Lab
from site_secrets import forms, secrets_of, shown

# Patterns come on standard input, so that they are on no command line either.
SEARCH = """
exec 3<&0
{
  journalctl --quiet --no-pager --all --output=export
  find /var/log -type f -not -path '/var/log/journal/*' -exec cat {} +
  cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'
} </dev/null 2>/dev/null | grep --text --fixed-strings --only-matching --file=/dev/fd/3 | sort --unique
true
"""
# Secrets that only the hosts have: the tokens of HTCondor and the engines' encryption keys.
HOSTS_OWN = """
find /etc/condor/tokens.d /var/lib/distcloud/*/condor/tokens.d /etc/distcloud/*/encryption.key -type f -exec grep -h . {} + 2>/dev/null
true
"""


@pytest.fixture(scope="module")
def secrets(lab: Lab) -> dict[str, str]:
    found = secrets_of(lab.state)
    assert len(found) > 10, "the lab's state has fewer secrets than a site needs"
    own = [line for host in hosts(lab) for line in lab.run(host, HOSTS_OWN).split()]
    assert own, "the hosts have neither a token nor a key"
    return found | dict.fromkeys(own, "a token or key of a host")


def hosts(lab: Lab) -> list[str]:
    return [*lab.inventory["central_managers"]["hosts"], *lab.inventory["lab_regions"]["hosts"]]


@pytest.mark.security
def test_no_secret_is_logged_on_any_host(lab: Lab, secrets: dict[str, str]) -> None:
    texts, seen = forms(secrets), {}
    for host in hosts(lab):
        lines = lab.run(host, SEARCH, stdin="\n".join(texts) + "\n", timeout=300).splitlines()
        seen[host] = sorted({texts[line] for line in lines})
    assert not any(seen.values()), seen


@pytest.mark.security
def test_no_secret_is_in_the_output_of_the_deployment(secrets: dict[str, str]) -> None:
    """Its log has every task with its arguments, results and diffs, of the run that created the secrets."""
    logs = [path for name in ("lab-up", "site") if (path := LOGS / f"{name}.log").is_file()]
    if not logs:
        pytest.skip("lab and site were not deployed by the test runner")
    seen = {path.name: shown(path.read_text("utf-8", "replace"), secrets) for path in logs}
    assert not any(seen.values()), seen
