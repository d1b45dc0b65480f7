"""Builds a worker image on a Debian 13 host: `python3 FOLDER --recipe R --cache DIR --output DIR [--manifest M]`, as root.

Leaves `worker.qcow2`, `manifest.json` and `result.json` in the output folder. The same manifest and recipe give the same bytes,
whichever mirrors the recipe names.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from _process import BuildError, run
from disk import convert, make_raw
from packages import Apt, Manifest, differences, newest, read_manifest, write_repository
from tree import customise


def build(recipe: dict[str, Any], cache: Path, output: Path, pinned: Manifest | None) -> dict[str, Any]:
    """Run all steps and return the content of result.json."""
    apt = Apt(cache, recipe["architecture"], recipe["sources"])
    if pinned is None:
        apt.update()
        chosen = apt.resolve(recipe["packages"])
        apt.fetch(chosen)
        manifest = Manifest(recipe["suite"], recipe["architecture"], newest(apt.archives, chosen), tuple(chosen), tuple(recipe["sources"]))
    else:
        if (pinned.suite, pinned.architecture) != (recipe["suite"], recipe["architecture"]):
            raise BuildError(
                f"the manifest is of {pinned.suite}/{pinned.architecture}, the image of {recipe['suite']}/{recipe['architecture']}"
            )
        apt.fetch(pinned.packages)
        manifest = pinned
    with tempfile.TemporaryDirectory(dir=cache, prefix="build-") as name:
        work = Path(name)
        tar = make_tree(recipe, manifest, apt, work)
        raw, image = work / "disk.raw", work / "worker.qcow2"
        size_mib = make_raw(tar, raw, work, recipe, manifest.epoch)
        convert(raw, image, recipe["disk"]["compression"])
        with image.open("rb") as stream:
            sha512 = hashlib.file_digest(stream, "sha512").hexdigest()
        result = {
            "sha512": sha512,
            "size": image.stat().st_size,
            "virtual_size_mib": size_mib + 1,
            "manifest_sha256": hashlib.sha256(manifest.text().encode()).hexdigest(),
            "source_date_epoch": manifest.epoch,
            "packages": len(manifest.packages),
            "tools": tools(),
        }
        output.mkdir(parents=True, exist_ok=True)
        (output / "result.json").unlink(missing_ok=True)
        shutil.move(image, output / "worker.qcow2")
        (output / "manifest.json").write_text(manifest.text())
        # Last: where it exists, the other two files are complete.
        (output / "result.json").write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
    return result


def make_tree(recipe: dict[str, Any], manifest: Manifest, apt: Apt, work: Path) -> Path:
    """Installs exactly the manifest's packages, applies the recipe, and returns the tree as a sorted tar file."""
    source = write_repository(work / "repository", apt.archives, manifest)
    tar, installed = work / "root.tar", work / "installed"
    (work / "recipe.json").write_text(json.dumps(recipe))
    (work / "manifest.json").write_text(manifest.text())
    hook = f'/usr/bin/python3 "{Path(__file__).parent}" --customise "{work}" "$1"'
    run(
        [
            "mmdebstrap",
            "--quiet",
            "--mode=root",
            "--format=tar",
            "--variant=minbase",
            f"--architectures={manifest.architecture}",
            f"--include={','.join(recipe['packages'])}",
            '--aptopt=APT::Install-Recommends "false"',
            '--aptopt=APT::Sandbox::User "root"',
            "--dpkgopt=force-unsafe-io",
            *(f"--dpkgopt=path-exclude={path}" for path in recipe["excluded"]),
            *(f"--dpkgopt=path-include={path}" for path in recipe["included"]),
            f"--customize-hook={hook}",
            f'--customize-hook=chroot "$1" dpkg-query -W -f \'${{Package}} ${{Version}}\\n\' > "{installed}"',
            manifest.suite,
            tar,
            source,
        ],
        what="installing the packages",
        epoch=manifest.epoch,
    )
    found = differences(manifest, dict(line.split(" ", 1) for line in installed.read_text().splitlines()))
    if found:
        raise BuildError("the image does not hold exactly the manifest's packages:\n" + "\n".join(found))
    return tar


def tools() -> dict[str, str]:
    """The versions of the builder's own tools, which also decide the bytes."""
    names = ["mmdebstrap", "e2fsprogs", "grub-pc-bin", "qemu-utils"]
    listing = run(["dpkg-query", "-W", "-f", "${Package} ${Version}\n", *names], what="asking the builder's package versions")
    return dict(line.split(" ", 1) for line in listing.splitlines())


def main() -> int:
    parser = argparse.ArgumentParser(prog="build", description=__doc__)
    parser.add_argument("--recipe", type=Path)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--manifest", type=Path)
    parser.add_argument("--customise", nargs=2, type=Path, metavar=("WORK", "ROOT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    try:
        if given.customise:
            work, root = given.customise
            customise(root, json.loads((work / "recipe.json").read_text()), read_manifest(work / "manifest.json"))
            return 0
        if not (given.recipe and given.cache and given.output):
            parser.error("--recipe, --cache and --output are needed")
        if os.geteuid() != 0:
            raise BuildError("building an image needs root on the builder: set become: true on the play")
        given.cache.mkdir(parents=True, exist_ok=True)
        pinned = read_manifest(given.manifest) if given.manifest else None
        result = build(json.loads(given.recipe.read_text()), given.cache.resolve(), given.output, pinned)
    except BuildError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
