"""Error formats: each protocol has its own, and the path of a request selects the protocol.

Errors that occur before a route is found, such as a missing API key, have the format of the path too.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from typing_extensions import TypedDict  # Pydantic supports the one of typing only from Python 3.12.


class Refusal(TypedDict):
    """Error response: a message, and an error type for programs."""

    error: str
    error_type: str


class OpenAIError(TypedDict):
    """An error in OpenAI's format. `code` is for programs, and `param` names a field of the request."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIRefusal(TypedDict):
    """Error response in OpenAI's format."""

    error: OpenAIError


class ErrorFormat(ABC):
    """Error format of a protocol.

    Attributes:
        model: Type of the response, for the OpenAPI document.
        statuses: HTTP statuses that differ from those of the other protocols.
    """

    model: ClassVar[Any]
    statuses: ClassVar[Mapping[int, int]] = {}

    @abstractmethod
    def content(self, message: str, *, kind: str, status: int, field: str | None = None) -> Any:
        """Returns the content of an error response.

        Args:
            message: Message for the client.
            kind: Kind of the failure (`Failure.kind`).
            status: HTTP status of the response.
            field: Field of the request that caused the failure, or None.

        Returns:
            JSON-serializable content.
        """

    @property
    def responses(self) -> dict[int | str, dict[str, Any]]:
        """OpenAPI description of the error responses."""
        return {"default": {"model": self.model, "description": "Error."}}


class FlatErrors(ErrorFormat):
    """`{"error": …, "error_type": …}`, as in Text Embeddings Inference.

    Hugging Face, TensorFlow Serving, KServe and Triton define `error` alone; their clients ignore
    further fields.
    """

    model = Refusal

    def content(self, message: str, *, kind: str, status: int, field: str | None = None) -> Refusal:
        """Returns the content; see `ErrorFormat`."""
        return {"error": message, "error_type": kind}


class OpenAIErrors(ErrorFormat):
    """`{"error": {"message": …, "type": …, "param": …, "code": …}}`, as OpenAI and vLLM.

    See https://platform.openai.com/docs/guides/error-codes. Where OpenAI has no code, `code` is the
    kind of the failure.
    """

    model = OpenAIRefusal
    # OpenAI's client raises BadRequestError for 400 only.
    statuses: ClassVar[Mapping[int, int]] = {422: 400}
    _codes: ClassVar[Mapping[str, str | None]] = {
        "adapter_not_found": "model_not_found",
        "authentication": "invalid_api_key",
        "authorization": "insufficient_permissions",
        "not_found": "unknown_url",
        "method_not_allowed": "method_not_supported",
        "validation": None,
        "backend": None,
    }

    def content(self, message: str, *, kind: str, status: int, field: str | None = None) -> OpenAIRefusal:
        """Returns the content; see `ErrorFormat`."""
        code = "rate_limit_exceeded" if status == 429 else self._codes.get(kind, kind)
        what = "server_error" if status >= 500 else "requests" if status == 429 else "invalid_request_error"
        if code == "model_not_found":
            field = "model"
        return {"error": {"message": message, "type": what, "param": field, "code": code}}


FLAT, OPENAI = FlatErrors(), OpenAIErrors()
# The first match counts. All other paths have flat errors.
_FORMATS: tuple[tuple[re.Pattern[str], ErrorFormat], ...] = (
    (re.compile(r"/v1/(adapters|explain)(/|$)"), FLAT),
    # TensorFlow Serving. The version and the method follow the name of the model.
    (re.compile(r"/v1/models/[^/]+(:(predict|classify|regress)$|/(versions|labels|metadata)(/|$))"), FLAT),
    (re.compile(r"/v1(/|$)"), OPENAI),
)


def format_of(path: str) -> ErrorFormat:
    """Returns the error format of a path.

    Args:
        path: Path of a request, whether or not there is anything at it.

    Example:
        >>> format_of("/v1/classify") is OPENAI, format_of("/v1/models/mood:predict") is FLAT
        (True, True)
    """
    return next((form for paths, form in _FORMATS if paths.match(path)), FLAT)
