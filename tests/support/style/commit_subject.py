"""Checks the subject of a commit: `scope: imperative subject`, at most 72 characters; a body is set off by an empty line."""

from __future__ import annotations

import re
import sys
from pathlib import Path

SUBJECT = re.compile(r"[a-z][\w/, .-]*: \S.*[^.]|Merge .*|Revert .*|(fixup|squash|amend)! .*")
# What follows is the diff that `git commit --verbose` shows.
SCISSORS = re.compile(r"^# -+ >8 -+$.*", re.MULTILINE | re.DOTALL)
MOST = 72


def problem(message: str) -> str:
    """What is wrong with a commit message; empty where nothing is."""
    kept = [line for line in SCISSORS.sub("", message).splitlines() if not line.startswith("#")]
    lines = "\n".join(kept).strip().splitlines()
    subject = lines[0] if lines else ""
    if not SUBJECT.fullmatch(subject):
        return f"{subject!r}: write `scope: imperative subject` without a full stop, such as `shoal: drop silent caches`"
    if len(subject) > MOST:
        return f"{subject!r}: {len(subject)} characters; the limit is {MOST}"
    if len(lines) > 1 and lines[1]:
        return "the second line is not empty; the body starts after an empty line"
    return ""


if __name__ == "__main__":
    sys.exit(problem(Path(sys.argv[1]).read_text("utf-8")) or 0)
