"""Checks the documentation as readers get it: `antsibull-docs` lints the collection's, and the reference is built into build/docs.

Rewrites the committed indexes of roles and plugins first."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import reference
from artifact import BIN, ROOT, build

OUT = ROOT / "build" / "docs"


def main() -> None:
    reference.main()
    with tempfile.TemporaryDirectory() as folder:
        # Linted where it is installed: the linter wants a collection's own place, and no checkout around it.
        place = Path(folder) / "ansible_collections" / "hep" / "distcloud"
        place.mkdir(parents=True)
        shutil.unpack_archive(build(Path(folder)), place, "gztar")
        (Path(folder) / "ansible.cfg").touch()
        environment = os.environ | {
            "ANSIBLE_COLLECTIONS_PATH": folder,
            "ANSIBLE_CONFIG": f"{folder}/ansible.cfg",
            "PATH": f"{BIN}:{os.environ['PATH']}",
        }
        lint = [BIN / "antsibull-docs", "lint-collection-docs", "--plugin-docs", "--validate-collection-refs", "self", "."]
        if subprocess.run(lint, cwd=place, env=environment, check=False).returncode:
            sys.exit("antsibull-docs: see above; each line names file and place")
        OUT.mkdir(parents=True, exist_ok=True)
        build_reference = [BIN / "antsibull-docs", "collection", "--use-current", "--squash-hierarchy", "--dest-dir", OUT, "hep.distcloud"]
        subprocess.run(build_reference, env=environment, check=True)
    print(f"{len(list(OUT.rglob('*.rst')))} pages of reference")


if __name__ == "__main__":
    main()
