"""Files that are written atomically: a reader, or a crash, sees the old content or the new one, never a part."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_atomic(path: Path | str, text: str, *, mode: int = 0o644, replace: bool = True) -> None:
    """Write UTF-8 text to a temporary file beside `path`, flush it to disk and move it there.

    With `replace` false an existing file is kept and FileExistsError raised.
    """
    target = Path(path)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, mode)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        if replace:
            temporary.replace(target)
        else:
            os.link(temporary, target)  # unlike a rename it never replaces a file
    finally:
        temporary.unlink(missing_ok=True)


def write_if_changed(path: Path | str, text: str, *, mode: int = 0o644) -> bool:
    """Write the file atomically unless it has this text already; returns whether it was written."""
    target = Path(path)
    if target.exists() and target.read_text("utf-8") == text:
        return False
    write_atomic(target, text, mode=mode)
    return True
