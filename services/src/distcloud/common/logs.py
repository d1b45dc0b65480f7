"""Structured logs: one JSON object a line on standard error, with the request or VM they belong to and without secrets."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from .config import LogSettings

MASK = "********"
SECRET_KEYS = ("password", "secret", "token", "authorization", "credential_key", "private_key", "drain_key")
NOT_SECRET = ("token_expires_at", "token_directory", "token_name", "changed_secrets")


def hide_secrets(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask every value whose key looks like a secret, at any depth: the last line of defense, not the first."""
    for key in event:
        if key != "event":
            event[key] = _masked(key, event[key])
    return event


def _masked(key: str, value: Any) -> Any:
    lowered = key.lower()
    if lowered not in NOT_SECRET and any(word in lowered for word in SECRET_KEYS):
        return MASK if value else value
    if isinstance(value, dict):
        return {name: _masked(str(name), item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_masked(key, item) for item in value]
        return items if isinstance(value, list) else tuple(items)
    return value


def configure(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Route structlog and the standard library's loggers to one stream; call once at the start of a service."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
        hide_secrets,
    ]
    if settings.format == "json":
        final: list[Any] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(sort_keys=True, default=str)]
    else:
        # The renderer's default, where rich is installed, is a traceback with the values of all variables, which may be secrets.
        final = [structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)]
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.level.upper())
    for noisy in ("uvicorn", "uvicorn.error", "uvicorn.access", "httpx2", "httpcore2", "aiosqlite", "alembic", "keystoneauth"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A module's logger (`get_logger(__name__)`); its methods take an event and fields: `log.info("booted", vm="vm-...")`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
