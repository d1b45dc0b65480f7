"""HTTP to OpenStack's services: a client per credential, answers with a size limit, readable errors.

httpx2 and not keystoneauth's sessions: a call that hangs can be cancelled (a thread cannot), so that a dead region does not use up
a pool of threads that others need; and a CA can be given as text, without a file.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2

from .addresses import DEFAULT_POLICY, EndpointPolicy, EndpointRefused
from .credential import Credential
from .decoding import ANSWER_BYTES, AnswerTooLarge, Undecodable, parse_json, read_bounded
from .errors import CloudError, ErrorKind
from .transport import GuardedTransport


class InvalidRequest(Exception):
    """The request cannot be sent, because of its URL or a header; both may come from the cloud's own catalog."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that was received completely."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        """Raises ValueError for content that is not JSON or too complex."""
        return parse_json(self.content)

    @property
    def succeeded(self) -> bool:
        return 200 <= self.status < 300


def new_client(credential: Credential, seconds: float, endpoints: EndpointPolicy = DEFAULT_POLICY) -> httpx2.AsyncClient:
    """An HTTP client that trusts only the credential's own CA where it has one. Raises CloudError when that is not a certificate.

    It follows no redirects, and contacts only addresses that `endpoints` allows.
    """
    if credential.ca_certificate:
        try:
            context = ssl.create_default_context(cadata=credential.ca_certificate)
        except ssl.SSLError as error:
            message = "ca_certificate: is not a PEM certificate; give the text of the CA's certificate"
            raise CloudError(ErrorKind.AUTH, credential.label, message, no_effect=True) from error
    else:
        context = httpx2.create_ssl_context()
    limits = httpx2.Limits(max_connections=8, max_keepalive_connections=4, keepalive_expiry=30)
    transport = GuardedTransport(endpoints, context, limits)
    return httpx2.AsyncClient(transport=transport, timeout=httpx2.Timeout(seconds, connect=min(seconds, 10.0)), follow_redirects=False)


def check_open(credential: Credential, client: httpx2.AsyncClient) -> None:
    """Raises CloudError for a client that was closed because its credential was changed while a call waited for its turn.

    To be called right before sending: then certainly nothing was sent.
    """
    if client.is_closed:
        message = "not called: its account was changed meanwhile; the call is repeated with the new one"
        raise CloudError(ErrorKind.UNREACHABLE, credential.label, message, no_effect=True)


async def fetch(
    client: httpx2.AsyncClient, method: str, url: str, *, seconds: float, headers: Mapping[str, str] | None = None, **options: Any
) -> Answer:
    """Send a request and receive its answer, at most ANSWER_BYTES decoded, within `seconds`.

    Raises only the exceptions in FAILURES: see `describe` and `never_sent`.
    """
    # Uncompressed, and raw bytes: httpx2 decodes any number of layers, and a whole piece before its size can be checked.
    sent = {**(headers or {}), "Accept-Encoding": "identity"}
    answered = False
    try:
        async with asyncio.timeout(seconds), client.stream(method, url, headers=sent, **options) as response:
            answered = True
            content = await read_bounded(response.aiter_raw(), response.headers.get("Content-Encoding", ""), ANSWER_BYTES)
            return Answer(response.status_code, response.headers, content)
    except FAILURES:
        raise
    except Exception as error:
        if answered:  # then the request may have had an effect
            raise Undecodable(f"cannot be read ({type(error).__name__})") from error
        raise InvalidRequest(f"{type(error).__name__}: {error}") from error


FAILURES = (TimeoutError, httpx2.HTTPError, httpx2.InvalidURL, AnswerTooLarge, Undecodable, EndpointRefused, InvalidRequest)


def describe(error: BaseException, seconds: float) -> str:
    """What went wrong below HTTP."""
    if isinstance(error, TimeoutError | httpx2.TimeoutException):
        return f"no answer within {seconds:g} s"
    if isinstance(error, AnswerTooLarge):
        return f"the answer is larger than {ANSWER_BYTES >> 20} MiB"
    if isinstance(error, Undecodable):
        return f"the answer {error}"
    if isinstance(error, EndpointRefused):
        return str(error)
    if isinstance(error, InvalidRequest):
        return f"cannot be called ({error})"
    if isinstance(error, httpx2.RemoteProtocolError):  # its text quotes what was received, perhaps from another kind of service
        return "cannot be reached (it closed the connection, or its answer is not HTTP)"
    text = str(error) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return f"its certificate is not trusted ({text[:160]}); give the CA that signed it as ca_certificate"
    return f"cannot be reached ({text[:200]})"


def never_sent(error: BaseException) -> bool:
    """Whether the request certainly never left: then it had no effect."""
    return isinstance(
        error,
        httpx2.ConnectError
        | httpx2.ConnectTimeout
        | httpx2.PoolTimeout
        | httpx2.InvalidURL
        | httpx2.UnsupportedProtocol
        | EndpointRefused
        | InvalidRequest,
    )
