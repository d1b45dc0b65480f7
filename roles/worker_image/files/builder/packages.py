"""The recorded set of packages an image is made of: resolved once, kept as a manifest, fetched again byte for byte."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from _process import BuildError, run

INSTALLED = re.compile(r"^Inst (?P<name>\S+) \((?P<version>\S+) .*\[(?P<architecture>\S+)\]\)")
# Format 1, of images built before sources were recorded, is read and written unchanged: its hash identifies the set.
FORMATS = (1, 2)


@dataclass(frozen=True, order=True)
class Package:
    """One binary package as the archive describes it; `sha256` is that of the .deb."""

    name: str
    architecture: str
    version: str
    sha256: str
    size: int

    @property
    def file(self) -> str:
        """The name under which apt keeps it: an epoch's colon is written %3a."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"

    def __str__(self) -> str:
        return f"{self.name}={self.version} [{self.architecture}]"


@dataclass(frozen=True)
class Manifest:
    """Everything of the archive that is in an image: the packages, and in `sources` the lines of its sources.list; `epoch` is the time
    stamp of its files. A rebuild may fetch from elsewhere."""

    suite: str
    architecture: str
    epoch: int
    packages: tuple[Package, ...]
    sources: tuple[str, ...] | None = None

    def text(self) -> str:
        """The one way to write it, so that its hash names the set."""
        body: dict[str, Any] = {
            "format": 1 if self.sources is None else 2,
            "suite": self.suite,
            "architecture": self.architecture,
            "source_date_epoch": self.epoch,
            "packages": [asdict(package) for package in sorted(self.packages)],
        }
        if self.sources is not None:
            body["sources"] = list(self.sources)
        return json.dumps(body, indent=1, sort_keys=True) + "\n"

    def sources_list(self, fetched_from: Iterable[str]) -> str:
        """The image's sources.list: the recorded lines, or those of this build where the manifest is of format 1."""
        return "".join(f"{line}\n" for line in (fetched_from if self.sources is None else self.sources))


def read_manifest(path: Path) -> Manifest:
    """Reads a manifest of an earlier build."""
    try:
        body = json.loads(path.read_text())
        if body["format"] not in FORMATS:
            readable = " and ".join(map(str, FORMATS))
            raise BuildError(f"{path}: format is {body['format']}, this builder reads {readable}; build with the collection that wrote it")
        packages = tuple(Package(**entry) for entry in body["packages"])
        sources = tuple(map(str, body["sources"])) if body["format"] == 2 else None
        return Manifest(body["suite"], body["architecture"], int(body["source_date_epoch"]), packages, sources)
    except (KeyError, TypeError, ValueError) as error:
        raise BuildError(f"{path}: not a package manifest of a worker image: {error!r}") from error


class Apt:
    """An apt of its own beside the builder's: its lists and archives lie in the cache, its system is empty."""

    def __init__(self, cache: Path, architecture: str, sources: Sequence[str]) -> None:
        self.archives = cache / "archives"
        self.lists = cache / "lists"
        for folder in (self.archives / "partial", self.lists / "partial", cache / "etc"):
            folder.mkdir(parents=True, exist_ok=True)
        status = cache / "etc" / "status"
        status.write_text("")
        source_list = cache / "etc" / "sources.list"
        source_list.write_text("".join(f"{line}\n" for line in sources))
        self.options = [
            f"-oAPT::Architecture={architecture}",
            f"-oAPT::Architectures={architecture}",
            "-oAPT::Install-Recommends=false",
            "-oAPT::Get::Assume-Yes=true",
            "-oAPT::Sandbox::User=root",
            "-oAcquire::Languages=none",
            "-oAcquire::Retries=3",
            f"-oDir::State={cache / 'etc'}",
            f"-oDir::State::status={status}",
            f"-oDir::State::lists={self.lists}",
            f"-oDir::Cache={cache}",
            f"-oDir::Cache::archives={self.archives}",
            f"-oDir::Etc::sourcelist={source_list}",
            "-oDir::Etc::sourceparts=/dev/null",
            "-oDir::Etc::preferences=/dev/null",
            "-oDir::Etc::preferencesparts=/dev/null",
        ]

    def update(self) -> None:
        run(["apt-get", *self.options, "-qq", "--error-on=any", "update"], what="reading the package lists")

    def resolve(self, wanted: Sequence[str]) -> list[Package]:
        """The set that apt would install on an empty system: the base every Debian has, and what is wanted."""
        base = ["?essential", "?priority(required)", "apt"]
        plan = run(["apt-get", *self.options, "-s", "install", *base, *wanted], what="choosing the packages")
        found = [match.groupdict() for line in plan.splitlines() if (match := INSTALLED.match(line))]
        if not found:
            raise BuildError("choosing the packages: apt selected no package; check worker_image_apt_sources")
        return self.describe([(entry["name"], entry["architecture"], entry["version"]) for entry in found])

    def describe(self, wanted: Iterable[tuple[str, str, str]]) -> list[Package]:
        """What the archive says of (name, architecture, version); unknown ones are left out."""
        asked = set(wanted)
        names = [f"{name}={version}" for name, architecture, version in sorted(asked)]
        known: dict[tuple[str, str, str], Package] = {}
        for stanza in stanzas(run(["apt-cache", *self.options, "show", *names], what="describing the packages")):
            key = (stanza["Package"], stanza["Architecture"], stanza["Version"])
            # The plan names the machine's architecture for packages of architecture "all".
            if key in asked or (key[1] == "all" and any(name == key[0] and version == key[2] for name, architecture, version in asked)):
                known[key] = Package(*key, stanza["SHA256"], int(stanza["Size"]))
        return sorted(known.values())

    def fetch(self, packages: Sequence[Package]) -> None:
        """Brings every .deb into the cache; says which are no longer to be had."""
        missing = [package for package in packages if not self.holds(package)]
        if not missing:
            return
        self.update()
        offered = set(self.describe_available(missing))
        gone = [package for package in missing if package not in offered]
        if gone:
            listing = "\n".join(f"  {package} sha256 {package.sha256}" for package in gone)
            raise BuildError(
                f"{len(gone)} packages of the manifest are no longer to be had from worker_image_apt_sources:\n{listing}\n"
                "Point worker_image_apt_sources at an archive of that day (Debian's snapshot archive keeps them all), copy the "
                f".deb files into {self.archives}, or leave out worker_image_manifest to take today's packages."
            )
        for package in missing:
            (self.archives / package.file).unlink(missing_ok=True)
        names = [f"{package.name}={package.version}" for package in missing]
        uris = run(["apt-get", *self.options, "--print-uris", "-qq", "download", *names], what="finding the packages")
        # `apt-get download` writes into the working directory and checks the hashes of the signed lists.
        here = Path.cwd()
        os.chdir(self.archives)
        try:
            run(["apt-get", *self.options, "-qq", "download", *names], what="downloading the packages")
        finally:
            os.chdir(here)
        wrong = [package for package in missing if not self.holds(package)]
        if wrong:
            raise BuildError(f"downloading the packages: {wrong[0]} did not arrive as recorded; the archive named\n{uris}")

    def describe_available(self, packages: Sequence[Package]) -> list[Package]:
        """Those of `packages` that the archive still has, byte for byte."""
        names = sorted({package.name for package in packages})
        offered: list[Package] = []
        # Without a version an unknown name is not an error for the others.
        policy = run(["apt-cache", *self.options, "madison", *names], what="looking for the packages")
        versions = {tuple(part.strip() for part in line.split("|")[:2]) for line in policy.splitlines()}
        there = [package for package in packages if (package.name, package.version) in versions]
        if there:
            offered = self.describe([(package.name, package.architecture, package.version) for package in there])
        return offered

    def holds(self, package: Package) -> bool:
        path = self.archives / package.file
        return path.is_file() and path.stat().st_size == package.size and sha256(path) == package.sha256


def stanzas(text: str) -> list[dict[str, str]]:
    """The fields of each paragraph of a Debian control file; continuation lines are kept with their field."""
    found: list[dict[str, str]] = []
    for paragraph in text.split("\n\n"):
        fields: dict[str, str] = {}
        last = ""
        for line in paragraph.splitlines():
            if line[:1] in (" ", "\t"):
                fields[last] += "\n" + line
            elif ":" in line:
                last, _colon, value = line.partition(":")
                fields[last] = value.strip()
        if fields:
            found.append(fields)
    return found


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def newest(archives: Path, packages: Iterable[Package]) -> int:
    """The time at which the newest package was made, as written in its .deb: a time stamp that the set itself decides."""
    return max(made_at(archives / package.file) for package in packages)


def made_at(deb: Path) -> int:
    """Seconds since the epoch from the header of a .deb's first member (an ar archive: 8 bytes, then name 16, time 12)."""
    with deb.open("rb") as stream:
        header = stream.read(36)
    return int(header[24:36].decode("ascii").strip() or 0)


def write_repository(folder: Path, archives: Path, manifest: Manifest) -> str:
    """Makes a repository of exactly the manifest's packages in `folder`; returns the line for sources.list.

    It is trusted because every file was compared with the manifest's hash before.
    """
    folder.mkdir()
    index: list[str] = []
    for package in sorted(manifest.packages):
        source = archives / package.file
        (folder / package.file).symlink_to(source)
        control = run(["dpkg-deb", "--field", source], what=f"reading {package}").rstrip("\n")
        index.append(f"{control}\nFilename: ./{package.file}\nSize: {package.size}\nSHA256: {package.sha256}\n")
    body = "\n".join(index)
    (folder / "Packages").write_text(body)
    digest = hashlib.sha256(body.encode()).hexdigest()
    (folder / "Release").write_text(
        f"Suite: {manifest.suite}\nCodename: {manifest.suite}\nArchitectures: {manifest.architecture} all\n"
        f"SHA256:\n {digest} {len(body.encode())} Packages\n"
    )
    return f"deb [trusted=yes] copy://{folder} ./"


def differences(manifest: Manifest, installed: Mapping[str, Any]) -> list[str]:
    """How the installed packages (name -> version) differ from the manifest's, one sentence each."""
    recorded = {package.name: package.version for package in manifest.packages}
    found = [f"{name} {version} is in the manifest but not installed" for name, version in recorded.items() if name not in installed]
    found += [f"{name} {version} is installed but not in the manifest" for name, version in installed.items() if name not in recorded]
    found += [
        f"{name}: the manifest has {version}, {installed[name]} is installed"
        for name, version in recorded.items()
        if name in installed and installed[name] != version
    ]
    return sorted(found)
