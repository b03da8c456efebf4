"""A chat-completions endpoint in OpenAI's form, of whatever server: a text in, an answer out."""

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

# Seconds before the first retry; each further one waits twice as long, up to the longest.
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0
# An endpoint that asks for a longer pause, such as until tomorrow, ends the run.
_LONGEST_PAUSE = 600.0
# How the shape of the answers is asked for, the strictest first. What a server does not know, it refuses.
FORMATS = ("json_schema", "json_object", "none")
_NOT_KNOWN = {400, 422, 501}
_MAY_PASS = {408, 409, 425, 429}


class Endpoint:
    """A server and a model on it, and how to ask it.

    Args:
        address: Its address up to `/v1`, or that of the chat completions themselves.
        model: The model's name there.
        key: The API key, "" for none. It is in no message.
        temperature: How freely the model writes; the endpoint's own by default.
        seed: What the model's chance begins from; not sent by default.
        max_tokens: Most tokens of an answer; the endpoint's own by default.
        timeout: Seconds until an answer has to be there.
        retries: Times to ask again after a failure that may pass.
        waiting: Told of the seconds and the reason of each pause.

    Raises:
        OptionError: If the address or the key cannot be one.
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
        waiting: Callable[[float, str], None],
    ) -> None:
        self.url = completions_url(address)
        self.model = model
        # Whether it answered once, and so which format it knows. Until then one request at a time is enough.
        self.is_known = False
        self._key = key
        self._seed = seed
        self._settings = {"model": model, "temperature": temperature, "max_tokens": max_tokens}
        self._timeout = timeout
        self._retries = retries
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
        """Sends one request, again where that may help.

        Args:
            prompt: The text of the request.
            schema: The JSON schema that the answer shall keep.
            number: Which request it is; each has a seed of its own.

        Returns:
            The answer, good or bad.

        Raises:
            EndpointError: If the endpoint refuses, or still fails after all retries.
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
            if self.is_known:  # It answered such requests, so it is this one that it does not like.
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
        """Sends until there is an answer that another try would not change, and counts the failures."""
        for failed in range(self._retries + 1):
            await anyio.sleep(max(0.0, self._paused_until - time.monotonic()))
            asked_to_wait = None
            try:
                with anyio.fail_after(self._timeout):
                    response = await self._client.post(self.url, json=body)
            except httpx2.ConnectTimeout:
                reason = "no connection in time"
            except (TimeoutError, httpx2.TimeoutException):
                reason = f"no answer within {self._timeout:g} s"
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
                    f"{self.url} asks for a pause of {asked_to_wait:,.0f} s ({reason}). Go on after that."
                )
            if failed < self._retries:
                await self._pause(failed, asked_to_wait, reason)
        times = "once" if self._retries == 0 else f"{self._retries + 1} times in a row"
        raise EndpointError(
            f"{self.url} failed {times}, at last with: {reason}. Check that the server runs and that its address "
            "is right; `retries`, `timeout` and a lower `concurrency` may help."
        )

    async def _pause(self, failed: int, asked_to_wait: float | None, reason: str) -> None:
        seconds = min(_FIRST_WAIT * 2**failed, _LONGEST_WAIT) * self._chance.uniform(0.5, 1)
        if asked_to_wait is not None:
            seconds = asked_to_wait
            # What holds for one request holds for those beside it.
            self._paused_until = max(self._paused_until, time.monotonic() + seconds)
        self._waiting(seconds, reason)
        await anyio.sleep(seconds)

    def _refused(self, response: httpx2.Response) -> EndpointError:
        status, message = response.status_code, self._said(message_of(response))
        what = f"{self.url} answers {status}" + (f" ({message})" if message else "")
        if status in (401, 403):
            key = "the key that was sent is wrong or may not do this" if self._key else "no key was sent"
            help_ = f"{key}; put the right one into the environment variable that `key_variable` names"
        elif status == 404:
            help_ = (
                f"either there is no model {self.model!r}, or the address is not right: expected one up to /v1, such "
                "as http://localhost:11434/v1"
            )
        elif response.is_redirect:
            help_ = f"give `endpoint` the address that it points to: {response.headers.get('location', '')}"
        else:
            help_ = "the request cannot be answered as it is; check `model`, `temperature`, `seed` and `max_tokens`"
        return EndpointError(f"{what}: {help_}.")

    def _said(self, message: str, *, most: int = 300) -> str:
        """A message on one line, without the key, which servers may repeat in theirs."""
        message = " ".join(message.split())
        message = message.replace(self._key, "***") if self._key else message
        return (message if len(message) <= most else f"{message[:most]} …").rstrip(".")


def completions_url(address: str) -> str:
    """Returns the address of the chat completions.

    Raises:
        OptionError: If it is no http address, or holds a password.
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
        raise OptionError("`endpoint` holds a user or password; put the key into an environment variable.")
    path = parts.path.rstrip("/")
    if not path.endswith("/chat/completions"):
        path = f"{path}/chat/completions"
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def key_in(variable: str) -> str:
    """Returns the API key in an environment variable, "" where it is not set.

    Raises:
        OptionError: If it cannot be one; the message does not hold it.
    """
    key = os.environ.get(variable, "").strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise OptionError(f"${variable} holds characters that no API key has; set it to the key alone.")
    return key


def _is_not_known(response: httpx2.Response) -> bool:
    """Tells whether a server does not take a request as it is; some call that an error of their own."""
    if response.status_code < 500:
        return response.status_code in _NOT_KNOWN
    return response.status_code in _NOT_KNOWN or "response_format" in response.text
