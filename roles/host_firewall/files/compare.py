"""Print the rules of table `inet distcloud` as they are loaded and as the configured files would load them.

Reads JSON from standard input: {"base": text of nftables.conf, "services": {name: text}}; files of services that are not listed are read
from disk, and an empty text means no file. Prints {"loaded", "configured"}, both as the kernel lists them: the configured rules are loaded
in a temporary network namespace.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile

SERVICES = "/etc/nftables.d"
LIST = "/usr/sbin/nft --stateless list table inet distcloud"


def main():
    spec = json.load(sys.stdin)
    with tempfile.TemporaryDirectory(prefix="nftables-") as scratch:
        services = os.path.join(scratch, "services")
        if os.path.isdir(SERVICES):
            shutil.copytree(SERVICES, services)
        os.makedirs(services, exist_ok=True)
        texts = {os.path.join("services", name + ".nft"): text for name, text in spec["services"].items()}
        texts["nftables.conf"] = spec["base"].replace(SERVICES, services)
        for name, text in texts.items():
            with open(os.path.join(scratch, name), "w", encoding="utf-8") as out:
                out.write(text)
        command = ["unshare", "--net", "sh", "-ec", '/usr/sbin/nft --file "$1"; ' + LIST, "sh", os.path.join(scratch, "nftables.conf")]
        configured = subprocess.run(command, capture_output=True, text=True, check=False)
    if configured.returncode != 0:
        sys.stderr.write("The configured rules cannot be loaded, nothing was changed.\n%s" % configured.stderr)
        return 1
    loaded = subprocess.run(LIST.split(), capture_output=True, text=True, check=False)  # an absent table is no rules
    print(json.dumps({"loaded": loaded.stdout, "configured": configured.stdout}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
