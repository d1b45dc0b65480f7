"""The hooks of .pre-commit-config.yaml: what they call exists, and the check of a commit's subject lets good ones pass."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "support" / "style" / "commit_subject.py"
CONFIG = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
HOOKS = {hook["id"]: hook for repository in CONFIG["repos"] for hook in repository["hooks"]}
TESTS = (ROOT / "requirements" / "test.in").read_text("utf-8")


def check(message: str, folder: Path) -> subprocess.CompletedProcess[str]:
    file = folder / "COMMIT_EDITMSG"
    file.write_text(message, "utf-8")
    return subprocess.run([sys.executable, str(SCRIPT), str(file)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "message",
    [
        "shoal: drop caches silent for 180 s\n",
        "common, openstack: limit retries\n\nA body.\n",
        "\n# a comment\n\nshoal: drop silent caches\n",
        "shoal: drop silent caches\n\n# ------------------------ >8 ------------------------\n# Do not edit.\ndiff --git a/x b/x\n",
        "shoal: drop silent caches\n# ------------------------ >8 ------------------------\ndiff --git a/x b/x\n",
        "Merge branch 'glint'\n",
        'Revert "shoal: drop silent caches"\n\nThis reverts commit 1.\n',
        "fixup! shoal: drop silent caches\n",
        "squash! shoal: drop silent caches\n",
        "amend! shoal: drop silent caches\n",
    ],
)
def test_good_message_passes(message: str, tmp_path: Path) -> None:
    done = check(message, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("Drop silent caches\n", "write `scope: imperative subject`"),
        ("shoal: drop silent caches.\n", "without a full stop"),
        ("", "write `scope: imperative subject`"),
        (f"shoal: {'x' * 66}\n", "73 characters; the limit is 72"),
        ("shoal: drop silent caches\nA body.\n", "the body starts after an empty line"),
    ],
)
def test_bad_message_is_refused(message: str, words: str, tmp_path: Path) -> None:
    done = check(message, tmp_path)
    assert done.returncode == 1 and words in done.stderr


def test_hooks_call_what_the_checkout_has() -> None:
    for name, hook in HOOKS.items():
        if hook["language"] != "system":
            continue
        program, *arguments = hook["entry"].split()
        tool = program.removeprefix(".venv/bin/")
        assert tool == "python" or re.search(rf"^{tool}\b", TESTS, re.MULTILINE), f"hook {name}: test.in does not install {tool}"
        assert all((ROOT / part).is_file() for part in arguments if part.endswith(".py")), name


def test_private_key_is_refused() -> None:
    pattern = re.compile(HOOKS["private-key"]["entry"], re.MULTILINE)
    head = "-----BEGIN OPENSSH " + "PRIVATE KEY-----"
    assert pattern.search(f"{head}\n{'A' * 64}\n") and not pattern.search(f"{head} in a text")


def test_both_kinds_of_hooks_are_installed() -> None:
    used = {stage for hook in HOOKS.values() for stage in hook.get("stages", CONFIG["default_stages"])}
    assert used == set(CONFIG["default_install_hook_types"])


def test_files_are_checked_when_they_change() -> None:
    assert not [name for name, hook in HOOKS.items() if hook.get("pass_filenames") is False]
