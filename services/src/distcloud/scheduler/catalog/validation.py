"""Validation of cloud-init parts. Pure; an error says what was expected."""

from __future__ import annotations

import yaml

from ...common.config import UniqueKeyLoader, yaml_problem
from ..worker.configuration import WorkerSettings
from ..worker.templating import render_template
from ..worker.user_data import MetadataPart, UserDataError, template_variables, validate_part

SHORT_TYPES = ("cloud-config", "cloud-boothook", "x-shellscript")
FURTHER_TYPES = (
    "text/cloud-config-archive",
    "text/part-handler",
    "text/x-include-once-url",
    "text/x-include-url",
)
MAX_PART_BYTES = 65_536
_ANY_WORKER = WorkerSettings(host="vm-sample", domain="example.org", condor_host="central.example.org", group="group", alias="alias")


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


def part(content: str, mime: str) -> str | None:
    """What is wrong with a cloud-init part, or None. It must be usable on a worker, and cloud-config must not repeat a key."""
    size = len(content.encode("utf-8"))
    if size > MAX_PART_BYTES:
        return f"is {size} bytes long; the maximum is {MAX_PART_BYTES}"
    if "x-shellscript" in mime and not content.startswith("#!"):
        return "should begin with an interpreter line such as #!/bin/sh"
    try:
        validate_part(MetadataPart("part", content, mime))
        if mime == "cloud-config":
            yaml.load(render_template(content, template_variables(_ANY_WORKER)), Loader=UniqueKeyLoader)  # noqa: S506  a subclass of SafeLoader
    except UserDataError as error:
        return str(error).removeprefix("metadata part of the group").removeprefix(": ").strip()
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        return f"is not valid YAML after template expansion: {yaml_problem(error)}"
    return None
