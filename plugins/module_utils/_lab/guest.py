# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files in a guest's tree, read and written from the outer machine without ever following a link out of that tree.

A running guest is reached through /proc/PID/root of its init, a stopped one through its overlay's upper folder with the baked tree below.
Private to the collection: no promise is made to users outside of it.
"""

from __future__ import annotations

import contextlib
import os
import stat
import typing as t

from .._core.module import Failure
from .plan import GuestFile, merge_block

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Tree:
    """A guest's files: ``root`` is written to, ``lower`` is read where ``root`` has no file (None for a running guest)."""

    def __init__(self, root: str, lower: str | None = None) -> None:
        self.root = root
        self.lower = lower

    def _open_folder(self, base: str, parts: list[str]) -> int | None:
        """The folder as a descriptor; None if absent. A symbolic link is refused: the guest's root could have planted it."""
        handle = os.open(base, _FOLDER)
        for part in parts:
            try:
                following = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=handle)
            except FileNotFoundError:
                return None
            except OSError as error:
                raise Failure(f"{'/'.join(parts)} in {base}: {part} is not a folder ({error.strerror})", "lab", "guest_file") from error
            finally:
                os.close(handle)
            handle = following
        return handle

    def _read_in(self, base: str, path: str) -> tuple[str, int] | None:
        parts = path.strip("/").split("/")
        folder = self._open_folder(base, parts[:-1])
        if folder is None:
            return None
        try:
            status = os.lstat(parts[-1], dir_fd=folder)
            if not stat.S_ISREG(status.st_mode):
                return ("", -1)
            handle = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            with os.fdopen(handle, encoding="utf-8", errors="replace") as stream:
                return stream.read(1 << 20), stat.S_IMODE(status.st_mode)
        except FileNotFoundError:
            return None
        finally:
            os.close(folder)

    def read(self, path: str) -> tuple[str, int] | None:
        """Content and mode; None if the file does not exist, mode -1 if it is not a regular file."""
        found = self._read_in(self.root, path)
        if found is None and self.lower is not None:
            found = self._read_in(self.lower, path)
        return found

    def _make_folder(self, parts: list[str]) -> int:
        """The folder in ``root``, made with the owner and mode that the tree below gives it."""
        handle = os.open(self.root, _FOLDER)
        for depth, part in enumerate(parts):
            made = False
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=handle)
                made = True
            following = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=handle)
            os.close(handle)
            handle = following
            if made and self.lower is not None:
                below = self._open_folder(self.lower, parts[: depth + 1])
                if below is not None:
                    status = os.fstat(below)
                    os.fchown(handle, status.st_uid, status.st_gid)
                    os.fchmod(handle, stat.S_IMODE(status.st_mode))
                    os.close(below)
        return handle

    def write(self, path: str, content: str, mode: int) -> None:
        """Replace a file at once; it belongs to the owner of its folder, so that a user's .ssh stays the user's."""
        parts = path.strip("/").split("/")
        folder = self._make_folder(parts[:-1])
        temporary = f".{parts[-1]}.lab"
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(content)
                stream.flush()
                owner = os.fstat(folder)
                os.fchown(stream.fileno(), owner.st_uid, owner.st_gid)
                os.fchmod(stream.fileno(), mode)
            os.rename(temporary, parts[-1], src_dir_fd=folder, dst_dir_fd=folder)
        finally:
            os.close(folder)


class Drift(t.NamedTuple):
    """A file that differs from the spec; its diff is hidden for secrets."""

    file: GuestFile
    content: str
    before: str
    after: str


def drifted(tree: Tree | None, files: t.Iterable[GuestFile]) -> list[Drift]:
    """Which files have to be written. Without a tree (the host is not made yet) all of them."""
    found = []
    for file in files:
        there = tree.read(file.path) if tree else None
        old = there[0] if there and there[1] >= 0 else ""
        content = merge_block(old or "127.0.0.1 localhost\n", file.content) if file.block else file.content
        if there is not None and there[1] == file.mode and old == content:
            continue
        if file.secret:
            hidden = "(hidden)\n"
            found.append(Drift(file, content, hidden if there else "", hidden))
        else:
            found.append(Drift(file, content, old, content))
    return found


def write(tree: Tree, drifts: t.Iterable[Drift]) -> None:
    for drift in drifts:
        tree.write(drift.file.path, drift.content, drift.file.mode)
