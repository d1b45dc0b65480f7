# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The package sources of a Debian machine, read from its apt configuration.

apt's own listing (`apt-get indextargets`) names only what was downloaded already, which on a fresh machine is nothing.
Private to the collection: no promise is made to users outside of it.
"""

from __future__ import annotations

import glob
import os
import re
import typing as t


class Source(t.NamedTuple):
    """One address of an archive, with its suites and components."""

    uri: str
    suites: list[str]
    components: list[str]


def parse_sources(texts: t.Iterable[str]) -> list[Source]:
    """Every enabled binary source in apt's one-line or deb822 form."""
    found = []
    for text in texts:
        lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
        for line in lines:
            match = re.match(r"^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s*(.*)$", line)
            if match:
                found.append(Source(match.group(1), [match.group(2)], match.group(3).split()))
        for stanza in re.split(r"\n\s*\n", "\n".join(lines)):
            fields = {}
            for key, value in re.findall(r"^([A-Za-z-]+):[ \t]*(.*(?:\n[ \t]+.*)*)", stanza, re.M):
                fields[key.lower()] = value.split()
            if "deb" in fields.get("types", []) and fields.get("enabled", ["yes"])[0] != "no":
                found += [Source(uri, fields.get("suites", []), fields.get("components", [])) for uri in fields.get("uris", [])]
    return found


def lines_for(sources: t.Iterable[Source], release: str) -> list[str]:
    """Lines of a sources.list for one release with its updates and security fixes, each once; only what other machines reach too."""
    wanted = (release, release + "-updates", release + "-security")
    lines = [
        f"deb {source.uri.rstrip('/')} {suite} {' '.join(source.components)}"
        for source in sources
        for suite in wanted
        if suite in source.suites and source.uri.startswith(("http://", "https://"))
    ]
    return list(dict.fromkeys(lines))


def local_sources(root: str = "/") -> list[Source]:
    """The sources in /etc/apt; a mirror list is replaced by its first mirror."""
    folder = os.path.join(root, "etc/apt")
    paths = [os.path.join(folder, "sources.list")]
    paths += sorted(glob.glob(folder + "/sources.list.d/*.list") + glob.glob(folder + "/sources.list.d/*.sources"))
    texts = [_read(path) for path in paths]
    return [source._replace(uri=_resolve_mirror_list(root, source.uri)) for source in parse_sources(texts)]


def _resolve_mirror_list(root: str, uri: str) -> str:
    """Debian's images for clouds write mirror+file:/etc/apt/mirrors/debian.list, a file with an address a line."""
    match = re.match(r"^mirror\+file:/*(/.*)$", uri)
    if not match:
        return uri
    listed = [line.split()[0] for line in _read(os.path.join(root, match.group(1).lstrip("/"))).splitlines() if line[:1] not in ("", "#")]
    return listed[0] if listed else uri


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read()
    except FileNotFoundError:
        return ""
