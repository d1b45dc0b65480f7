"""Finds the words and phrases that tests/house/vocabulary.yml bans, in tracked text and in identifiers.

`python tests/support/style/vocabulary.py [PATH...]` prints each finding, and their number by pattern.
"""

from __future__ import annotations

import ast
import fnmatch
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
LIST = ROOT / "tests" / "house" / "vocabulary.yml"
KINDS = {".py", ".yml", ".yaml", ".md", ".j2", ".sh", ".toml", ".ini", ".cfg", ".json", ".txt", ".in", ".svg", ""}
# Texts of others, and lists that tools write.
OUTSIDE = ("LICENSE", "LICENSES/", "requirements/control.txt", "requirements/test.txt")
CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True)
class Finding:
    """One banned word at one place."""

    path: str
    line: int
    word: str
    use: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.word!r}; write: {self.use}"


@dataclass(frozen=True)
class Rule:
    """One entry of the list."""

    pattern: re.Pattern[str]
    use: str
    only: tuple[str, ...] = ()


def words(text: str) -> str:
    """A line with identifiers split into their words."""
    return CAMEL.sub(" ", text.replace("_", " "))


def rules(entries: list[dict[str, Any]]) -> list[Rule]:
    return [
        Rule(re.compile(entry["pattern"], 0 if entry.get("case") else re.IGNORECASE), entry["use"], tuple(entry.get("only", ())))
        for entry in entries
    ]


def tracked() -> list[str]:
    return subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()


def own_text(name: str) -> bool:
    return (ROOT / name).is_file() and Path(name).suffix in KINDS and not name.startswith(OUTSIDE)


def identifiers(source: str) -> Iterator[tuple[int, str]]:
    """Names of a Python file, with their lines."""
    for node in ast.walk(ast.parse(source)):
        for field in ("name", "id", "attr", "arg", "asname"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                yield getattr(node, "lineno", 0), value


def findings(names: list[str] | None = None) -> list[Finding]:
    """All findings that are not allowed, of the files named or of all tracked ones."""
    content = yaml.safe_load(LIST.read_text("utf-8"))
    phrases, inner, allowed = rules(content["phrases"]), rules(content["identifiers"]), content["allowed"]
    found: list[Finding] = []
    for name in filter(own_text, tracked() if names is None else names):
        text = (ROOT / name).read_text("utf-8")
        suffix = Path(name).suffix
        fitting = [rule for rule in phrases if not rule.only or suffix in rule.only]
        for number, line in enumerate(text.splitlines(), 1):
            found += [Finding(name, number, hit.group(), rule.use) for rule in fitting for hit in rule.pattern.finditer(words(line))]
        if suffix == ".py":
            lines = identifiers(text)
            found += [
                Finding(name, number, hit.group(), rule.use)
                for number, each in lines
                for rule in inner
                if (hit := rule.pattern.search(words(each)))
            ]
    return [
        one
        for one in found
        if not any(fnmatch.fnmatch(one.path, entry["path"]) and re.fullmatch(entry["word"], one.word, re.IGNORECASE) for entry in allowed)
    ]


def main() -> int:
    found = findings(sys.argv[1:] or None)
    for one in found:
        print(one)
    for use, number in Counter(one.use for one in found).most_common():
        print(f"{number:6} {use}")
    print(f"{len(found):6} in all")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
