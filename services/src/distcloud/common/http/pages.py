"""HTML pages from templates: no JavaScript, nothing fetched from elsewhere, light and dark, phone and desktop."""

from __future__ import annotations

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def page_environment(package: str | None = None, folder: str = ".") -> Environment:
    """Templates of a package's folder, which extend `base.html.j2` of the kit; values are escaped."""
    shared = PackageLoader("distcloud.common.http", "templates")
    loader = shared if package is None else ChoiceLoader([PackageLoader(package, folder), shared])
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
