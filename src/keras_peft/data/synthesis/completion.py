"""Parses the responses of a chat-completions server: completions, error messages and retry delays."""

from __future__ import annotations

import email.utils
import json
import time
from dataclasses import dataclass

import httpx2


@dataclass(frozen=True, kw_only=True)
class ChatCompletion:
    """Response to a request.

    Attributes:
        content: Text that the model wrote.
        fault: What is wrong with the response as a whole; "" if nothing is.
        prompt_tokens: Number of prompt tokens reported by the endpoint; None if not reported.
        completion_tokens: Number of completion tokens reported by the endpoint; None if not reported.
        retries: Number of times the request was retried.
    """

    content: str
    fault: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    retries: int = 0


def read_completion(response: httpx2.Response) -> ChatCompletion:
    """Parses a chat completion; what is wrong with it becomes its `fault`."""
    try:
        content = json.loads(response.content)
    except (ValueError, RecursionError):
        return ChatCompletion(content="", fault="not an answer of a chat")
    usage = content.get("usage") if isinstance(content, dict) else None
    prompt_tokens, completion_tokens = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    try:
        choice = content["choices"][0]
        message = choice["message"]
        said = message.get("content")
    except (LookupError, TypeError, AttributeError):
        return ChatCompletion(content="", fault="not an answer of a chat")
    if isinstance(said, list):
        said = "".join(str(part.get("text", "")) for part in said if isinstance(part, dict))
    reason = choice.get("finish_reason") if isinstance(choice, dict) else None
    fault = ""
    if message.get("refusal") or reason == "content_filter":
        fault = "refused"
    elif reason == "length":
        fault = "cut off"
    elif not isinstance(said, str) or not said.strip():
        fault = "empty"
    return ChatCompletion(
        content=said if isinstance(said, str) else "",
        fault=fault,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
    )


def _count(usage: object, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def message_of(response: httpx2.Response) -> str:
    """Returns the error message of a response: in OpenAI's format, in a similar one, or as plain text."""
    try:
        content = json.loads(response.content)
    except (ValueError, RecursionError):
        return "" if "<" in response.text[:20] else response.text
    for key in ("error", "message", "detail"):
        if isinstance(content, dict) and content.get(key):
            content = content[key]
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)


def retry_after(response: httpx2.Response) -> float | None:
    """Returns the delay of a Retry-After header in seconds; the header holds seconds or a date."""
    given = response.headers.get("retry-after", "").strip()
    try:
        seconds = float(given)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(given).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, seconds) if seconds < float("inf") else None
