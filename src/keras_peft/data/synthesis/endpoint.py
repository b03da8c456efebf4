"""Client of a chat-completions endpoint in OpenAI's format: sends a prompt, returns the completion."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import anyio
import httpx2

from keras_peft._version import __version__
from keras_peft.data.synthesis.completion import ChatCompletion, message_of, read_completion, retry_after
from keras_peft.errors import EndpointError, OptionError

# Seconds: the longest delay before a retry.
_LONGEST_WAIT = 60.0
# A longer requested pause, such as until tomorrow, ends the run.
_LONGEST_PAUSE = 600.0
# Response formats to request, the strictest first. Servers reject those that they do not support.
FORMATS = ("json_schema", "json_object", "none")
_NOT_KNOWN = {400, 422, 501}
_MAY_PASS = {408, 409, 425, 429}


class Endpoint:
    """Client of one model on a chat-completions server.

    Args:
        address: URL of the server up to `/v1`, or URL of its chat completions.
        model: Name of the model on the server.
        key: API key, or "" for none. It never appears in a message.
        temperature: Sampling temperature; the endpoint's default if None.
        seed: Base of the seeds, to which the number of a request is added; not sent if None.
        max_tokens: Maximum tokens per response; the endpoint's default if None.
        timeout: Seconds to wait for a response.
        retries: Maximum number of retries after a failure that may be temporary.
        retry_delay: Seconds before the first retry; the delay doubles with each further one, up to
            60 seconds.
        waiting: Function called with the seconds and the reason of each pause.

    Raises:
        OptionError: If the address is not valid.
    """

    def __init__(
        self,
        address: str,
        model: str,
        *,
        key: str = "",
        temperature: float | None = None,
        seed: int | None = None,
        max_tokens: int | None = None,
        timeout: float,
        retries: int,
        retry_delay: float = 1.0,
        waiting: Callable[[float, str], None],
    ) -> None:
        self.url = completions_url(address)
        self.model = model
        # Whether a request has succeeded, so that the supported format is known. Until then, requests are
        # sent one at a time.
        self.is_known = False
        self._key = key
        self._seed = seed
        self._settings = {"model": model, "temperature": temperature, "max_tokens": max_tokens}
        self._timeout = timeout
        self._retries = retries
        self._retry_delay = retry_delay
        self._waiting = waiting
        self._format = 0
        self._paused_until = 0.0
        self._chance = Random()
        self._client = httpx2.AsyncClient(
            headers={"User-Agent": f"keras-peft/{__version__}"}
            | ({"Authorization": f"Bearer {key}"} if key else {}),
            timeout=httpx2.Timeout(timeout, connect=min(10.0, timeout)),
            limits=httpx2.Limits(max_connections=None),
        )

    async def __aenter__(self) -> Endpoint:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, trace)

    async def ask(self, prompt: str, schema: Mapping[str, Any], number: int) -> ChatCompletion:
        """Sends one request, and retries it if that may help.

        Args:
            prompt: Text of the request.
            schema: JSON schema that the response must follow.
            number: Number of the request, which determines its seed.

        Returns:
            The completion; its `fault` states what is wrong with it, if anything.

        Raises:
            EndpointError: If the endpoint rejects the request, or still fails after all retries.
        """
        retries = 0
        while True:
            asked_as = FORMATS[self._format]
            response, failed = await self._send(self._body(prompt, schema, number, asked_as))
            retries += failed
            if response.is_success:
                self.is_known = True
                return replace(read_completion(response), retries=retries)
            if not _is_not_known(response):
                raise self._refused(response)
            if self.is_known:  # The format works, so this request is the problem.
                message = self._said(message_of(response), most=100)
                return ChatCompletion(
                    content="",
                    fault=f"refused with {response.status_code} {message}".strip(),
                    retries=retries,
                )
            if asked_as == FORMATS[-1]:
                raise self._refused(response)
            self._format += 1

    def _body(self, prompt: str, schema: Mapping[str, Any], number: int, asked_as: str) -> dict[str, Any]:
        formats: dict[str, Any] = {
            "json_schema": {
                "type": "json_schema",
                "json_schema": {"name": "rows", "strict": True, "schema": schema},
            },
            "json_object": {"type": "json_object"},
            "none": None,
        }
        body = self._settings | {
            "messages": [{"role": "user", "content": prompt}],
            "response_format": formats[asked_as],
            "seed": None if self._seed is None else self._seed + number,
        }
        return {name: value for name, value in body.items() if value is not None}

    async def _send(self, body: Mapping[str, Any]) -> tuple[httpx2.Response, int]:
        """Sends a request until a retry would not change the response, and counts the failed attempts."""
        for failed in range(self._retries + 1):
            await anyio.sleep(max(0.0, self._paused_until - time.monotonic()))
            asked_to_wait = None
            try:
                with anyio.fail_after(self._timeout):
                    response = await self._client.post(self.url, json=body)
            except httpx2.ConnectTimeout:
                reason = "no connection in time"
            except (TimeoutError, httpx2.TimeoutException):
                reason = f"no response within {self._timeout:g} s"
            except httpx2.RequestError as error:
                reason = self._said(str(error) or type(error).__name__)
            else:
                status = response.status_code
                if _is_not_known(response) or not (status in _MAY_PASS or status >= 500):
                    return response, failed
                message = self._said(message_of(response))
                if "insufficient_quota" in response.text:
                    raise EndpointError(f"{self.url}: the account has no credit left ({message}).")
                reason = f"{status} {message}".strip()
                asked_to_wait = retry_after(response)
            if asked_to_wait is not None and asked_to_wait > _LONGEST_PAUSE:
                raise EndpointError(
                    f"{self.url} asks to wait {asked_to_wait:,.0f} s ({reason}). Resume after that."
                )
            if failed < self._retries:
                await self._pause(failed, asked_to_wait, reason)
        times = "" if self._retries == 0 else f" {self._retries + 1} times in a row, most recently with"
        raise EndpointError(
            f"{self.url} failed{times}: {reason}. Check that the server is running and its "
            "address is correct; `retries`, `timeout` and a lower `concurrency` may help."
        )

    async def _pause(self, failed: int, asked_to_wait: float | None, reason: str) -> None:
        seconds = min(self._retry_delay * 2**failed, _LONGEST_WAIT) * self._chance.uniform(0.5, 1)
        if asked_to_wait is not None:
            seconds = asked_to_wait
            # The pause applies to concurrent requests too.
            self._paused_until = max(self._paused_until, time.monotonic() + seconds)
        self._waiting(seconds, reason)
        await anyio.sleep(seconds)

    def _refused(self, response: httpx2.Response) -> EndpointError:
        status, message = response.status_code, self._said(message_of(response))
        what = f"{self.url} returned {status}" + (f" ({message})" if message else "")
        if status in (401, 403):
            key = "the key is wrong or lacks permission" if self._key else "no key was sent"
            help_ = f"{key}; set the environment variable that `key_variable` names to a valid key"
        elif status == 404:
            help_ = (
                f"either the model {self.model!r} does not exist, or the address is wrong: expected one that ends in "
                "/v1, such as http://localhost:11434/v1"
            )
        elif response.is_redirect:
            help_ = f"set `endpoint` to the address it redirects to: {response.headers.get('location', '')}"
        else:
            help_ = "the request is invalid; check `model`, `temperature`, `seed` and `max_tokens`"
        return EndpointError(f"{what}: {help_}.")

    def _said(self, message: str, *, most: int = 300) -> str:
        """Returns a message on one line, without the key, which servers may repeat in it."""
        message = " ".join(message.split())
        message = message.replace(self._key, "***") if self._key else message
        return (message if len(message) <= most else f"{message[:most]} …").rstrip(".")


def completions_url(address: str) -> str:
    """Returns the URL of the chat completions.

    Args:
        address: URL of the server up to `/v1`, or URL of its chat completions.

    Raises:
        OptionError: If the address is not an HTTP URL, or contains a user or password.
    """
    try:
        parts = urlsplit(address.strip())
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        sound = False
    if not sound:
        raise OptionError(
            f"`endpoint={address!r}`: expected an address such as https://api.openai.com/v1 or "
            "http://localhost:11434/v1."
        )
    if parts.username or parts.password:
        raise OptionError("`endpoint` contains a user or password; set the key in an environment variable.")
    path = parts.path.rstrip("/")
    if not path.endswith("/chat/completions"):
        path = f"{path}/chat/completions"
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def key_in(variable: str) -> str:
    """Returns the API key in an environment variable, or "" if the variable is not set.

    Args:
        variable: Name of the environment variable.

    Raises:
        OptionError: If the value is not a possible key. The message does not contain it.
    """
    key = os.environ.get(variable, "").strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise OptionError(
            f"${variable} contains characters that are not allowed in an API key; set it to the key only."
        )
    return key


def _is_not_known(response: httpx2.Response) -> bool:
    """Reports whether a server rejects the form of a request; some do so with a server error."""
    if response.status_code < 500:
        return response.status_code in _NOT_KNOWN
    return response.status_code in _NOT_KNOWN or "response_format" in response.text
