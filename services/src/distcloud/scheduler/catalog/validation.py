"""Validation of the types of cloud-init parts. Pure; an error says what was expected."""

from __future__ import annotations

SHORT_TYPES = ("cloud-config", "cloud-boothook", "x-shellscript")
FURTHER_TYPES = (
    "text/cloud-config-archive",
    "text/part-handler",
    "text/x-include-once-url",
    "text/x-include-url",
)


def mime_type(text: str) -> str:
    """Normalize a MIME type of cloud-init; the three common types lose their `text/`. Raises ValueError."""
    short = text.removeprefix("text/")
    if short in SHORT_TYPES:
        return short
    if f"text/{short}" in FURTHER_TYPES:
        return f"text/{short}"
    if short.startswith("x-shellscript-per-"):
        raise ValueError(
            "should be x-shellscript: a worker boots once, and cloud-init there does not run scripts of the types x-shellscript-per-..."
        )
    raise ValueError(f"should be one of {', '.join((*SHORT_TYPES, *FURTHER_TYPES))}")
