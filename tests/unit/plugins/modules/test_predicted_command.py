# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module predicted_command: the command runs, except in check mode."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.hep.distcloud.plugins.modules import predicted_command
from module_harness import Result, run_module


def call(*argv: str, check: bool = False) -> Result:
    return run_module(predicted_command.PredictedCommand, {"argv": list(argv)}, check=check)


def test_check_mode_reports_the_change_only(tmp_path: Path) -> None:
    path = tmp_path / "made"
    dry = call("touch", str(path), check=True)
    assert dry.changed and not path.exists()
    assert call("touch", str(path)).changed and path.exists()
    assert call("echo", "12.0 - 12.1").data["stdout"] == "12.0 - 12.1"


def test_failure_names_command_and_reason() -> None:
    result = call("ls", "/nonexistent")
    assert result.failed and result.data["msg"].startswith("ls /nonexistent failed with 2: ")
    assert call().data["msg"] == "argv: is empty; give a command"
