"""HTTP to OpenStack's services: a client per credential, answers with a size limit, readable errors.

httpx2 and not keystoneauth's sessions: a call that hangs can be cancelled (a thread cannot), so that a dead region does not use up
a pool of threads that others need; and a CA can be given as text, without a file.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2

from .credential import Credential
from .errors import CloudError, ErrorKind

# Of one decoded answer; a page of 1000 servers has about 5 MiB. Parsing blocks the event loop, a hostile answer for half a second.
ANSWER_BYTES = 8 * 2**20


class AnswerTooLarge(Exception):
    """An answer is larger than any valid one."""


class InvalidRequest(Exception):
    """The request cannot be sent, because of its URL or a header; both may come from the cloud's own catalog."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that was received completely."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        """Raises ValueError for content that is not JSON, also when it is nested too deeply."""
        try:
            return json.loads(self.content)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error

    @property
    def succeeded(self) -> bool:
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        return self.content.decode("utf-8", "replace")


def new_client(credential: Credential, seconds: float) -> httpx2.AsyncClient:
    """An HTTP client that trusts only the credential's own CA where it has one. Raises CloudError when that is not a certificate."""
    verify: ssl.SSLContext | bool = True
    if credential.ca_certificate:
        try:
            verify = ssl.create_default_context(cadata=credential.ca_certificate)
        except ssl.SSLError as error:
            message = "ca_certificate: is not a PEM certificate; give the text of the CA's certificate"
            raise CloudError(ErrorKind.AUTH, credential.label, message, no_effect=True) from error
    limits = httpx2.Limits(max_connections=8, max_keepalive_connections=4, keepalive_expiry=30)
    return httpx2.AsyncClient(verify=verify, timeout=httpx2.Timeout(seconds, connect=min(seconds, 10.0)), limits=limits)


def check_open(credential: Credential, client: httpx2.AsyncClient) -> None:
    """Raises CloudError for a client that was closed because its credential was changed while a call waited for its turn.

    To be called right before sending: then certainly nothing was sent.
    """
    if client.is_closed:
        message = "not called: its account was changed meanwhile; the call is repeated with the new one"
        raise CloudError(ErrorKind.UNREACHABLE, credential.label, message, no_effect=True)


async def fetch(client: httpx2.AsyncClient, method: str, url: str, *, seconds: float, **options: Any) -> Answer:
    """Send a request and receive its answer, at most ANSWER_BYTES decoded, within `seconds`.

    Raises only the exceptions in FAILURES: see `describe` and `never_sent`.
    """
    try:
        async with asyncio.timeout(seconds), client.stream(method, url, **options) as response:
            content = bytearray()
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > ANSWER_BYTES:
                    raise AnswerTooLarge
            return Answer(response.status_code, response.headers, bytes(content))
    except FAILURES:
        raise
    except Exception as error:
        raise InvalidRequest(f"{type(error).__name__}: {error}") from error


FAILURES = (TimeoutError, httpx2.HTTPError, httpx2.InvalidURL, AnswerTooLarge, InvalidRequest)


def describe(error: BaseException, seconds: float) -> str:
    """What went wrong below HTTP."""
    if isinstance(error, TimeoutError | httpx2.TimeoutException):
        return f"no answer within {seconds:g} s"
    if isinstance(error, AnswerTooLarge):
        return f"the answer is larger than {ANSWER_BYTES >> 20} MiB"
    if isinstance(error, InvalidRequest):
        return f"cannot be called ({error})"
    text = str(error) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return f"its certificate is not trusted ({text[:160]}); give the CA that signed it as ca_certificate"
    return f"cannot be reached ({text[:200]})"


def never_sent(error: BaseException) -> bool:
    """Whether the request certainly never left: then it had no effect."""
    return isinstance(
        error,
        httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout | httpx2.InvalidURL | httpx2.UnsupportedProtocol | InvalidRequest,
    )
