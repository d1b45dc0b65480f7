# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files with secrets: YAML, readable by their owner only, replaced atomically so that a crash leaves the old or the new one.

Private to the collection: no promise is made to users outside of it.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import typing as t

from .module import Failure

try:
    import yaml
except ImportError:
    yaml = None  # type: ignore[assignment]  # reported by read_yaml and write_yaml, after argument validation


def require_yaml() -> None:
    if yaml is None:
        raise Failure("PyYAML is needed on the machine where this module runs: pip install PyYAML", "python", "import")


def read_yaml(path: str) -> dict[str, t.Any] | None:
    """The mapping in a file; None if the file does not exist."""
    require_yaml()
    try:
        with open(path, encoding="utf-8") as file:
            content = yaml.safe_load(file)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}", "file", "unreadable", {"path": path})
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" (line {mark.line + 1})" if mark is not None else ""
        raise Failure(f"{path} is not valid YAML{place}; repair or remove it", "file", "invalid", {"path": path})
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise Failure(f"{path} should hold a mapping of keys and values; repair or remove it", "file", "invalid", {"path": path})
    return content


def replace_file(
    path: str,
    content: bytes,
    mode: int = 0o600,
    owner: tuple[int, int] | None = None,
    accept: t.Callable[[str], None] | None = None,
) -> None:
    """Replace a file atomically and durably: a crash leaves the old or the new one. Raises OSError.

    ``owner`` is uid and gid; ``accept`` gets the name of the complete new file and raises to refuse it.
    """
    folder = os.path.dirname(path) or "."
    handle, temporary = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", dir=folder)  # 0600 from its first moment
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if owner is not None:
            os.chown(temporary, *owner)
        os.chmod(temporary, mode)
        if accept is not None:
            accept(temporary)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def write_text(path: str, text: str) -> None:
    """Replace a file by one that only its owner may read; missing folders are created likewise."""
    try:
        os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
        replace_file(path, text.encode("utf-8"))
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror}", "file", "unwritable", {"path": path})


def write_yaml(path: str, content: dict[str, t.Any], comment: str) -> None:
    require_yaml()
    write_text(path, f"# {comment}\n{yaml.safe_dump(content, sort_keys=False, default_flow_style=False, allow_unicode=True)}")


def remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
