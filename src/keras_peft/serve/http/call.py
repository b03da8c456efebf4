"""State of one HTTP request: its API key, deadline, body and results."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from keras_peft.errors import listed
from keras_peft.serve.failures import AdapterNotFound, Invalid, Malformed
from keras_peft.serve.http.failures import NotAllowed

if TYPE_CHECKING:
    from starlette.requests import Request

    from keras_peft.explanation import Explanation
    from keras_peft.serve.adapter_record import AdapterStatus
    from keras_peft.serve.http.context import ServerContext
    from keras_peft.serve.keys import Key
    from keras_peft.serve.loaded_adapter import LoadedAdapter
    from keras_peft.serve.result import RequestResult

_SCOPE = "keras_peft.call"
_Body = TypeVar("_Body", bound=BaseModel)


@dataclass(slots=True, eq=False)
class Call:
    """State of one HTTP request.

    Attributes:
        context: State of the server.
        id: Request ID, as used in the logs.
        started: Arrival time, on the clock of `time.monotonic`.
        headers: Request headers, by lowercase name. The last of repeated headers wins.
        key: API key of the request, if any.
        body: The complete body.
        adapters: Names of the adapters that answered.
        answers: Results of the adapters.
        kind: Kind of the failure (`Failure.kind`), or empty if there is none.
        response_headers: Headers that the response has, also if the request fails.
    """

    context: ServerContext
    id: str
    started: float
    headers: Mapping[bytes, bytes]
    key: Key | None = None
    body: bytearray = field(default_factory=bytearray)
    adapters: Sequence[str] = ()
    answers: RequestResult | None = None
    kind: str = ""
    response_headers: list[tuple[bytes, bytes]] = field(default_factory=list)

    @property
    def deadline(self) -> float:
        """Time at which the request times out, on the clock of `time.monotonic`."""
        return self.started + self.context.settings.deadline_ms / 1000

    @property
    def seconds(self) -> float:
        """Time since the request arrived, in seconds."""
        return time.monotonic() - self.started

    def enter(self, scope: Any) -> None:
        """Stores the call in an ASGI scope, for `of` and `within`.

        Args:
            scope: ASGI scope of the request.
        """
        scope[_SCOPE] = self

    @staticmethod
    def of(request: Request) -> Call:
        """Returns the call of a Starlette request.

        Args:
            request: The request.
        """
        call: Call = request.scope[_SCOPE]
        return call

    @staticmethod
    def within(scope: Any) -> Call:
        """Returns the call of an ASGI scope.

        Args:
            scope: ASGI scope of the request.
        """
        call: Call = scope[_SCOPE]
        return call

    def read(self, model: type[_Body], body: bytes | bytearray | None = None) -> _Body:
        """Parses and validates the body.

        Args:
            model: Pydantic model of the body.
            body: JSON to parse. Defaults to the complete body.

        Returns:
            An instance of `model`.

        Raises:
            Malformed: If the body is empty or is not JSON.
            Invalid: If the body does not match the model. The message lists all invalid fields,
                without their values.
        """
        body = self.body if body is None else body
        if not body.strip():
            raise Malformed(f"The body is empty; expected a JSON object with {_expected(model)}.")
        try:
            # Strict, as in the OpenAPI document: "1" is not a number and 0 is not false.
            return model.model_validate_json(body, strict=True)
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=False, include_input=False)
        if problems[0]["type"] == "json_invalid":
            raise Malformed(
                f"The body is not valid JSON: {problems[0]['msg'].removeprefix('Invalid JSON: ')}."
            )
        fields = list(dict.fromkeys(str(problem["loc"][0]) for problem in problems if problem["loc"]))
        if not fields:
            raise Invalid(f"Expected a JSON object with {_expected(model)}.")
        problems_told = (f"`{name}`: expected {_description(model, name)}." for name in fields)
        raise Invalid(" ".join(problems_told), field=fields[0])

    def names(self, asked: str | Sequence[str] | None, field: str) -> list[str]:
        """Returns the names of the requested adapters; by default the only adapter.

        Args:
            asked: Name or names in the request, or None.
            field: Name of the field in the request, for error messages.

        Returns:
            The names, without duplicates.

        Raises:
            Invalid: If no adapter is named and the server does not have exactly one.
        """
        if isinstance(asked, str):
            return [asked]
        if asked is not None:
            if not asked:
                raise Invalid(f"`{field}` is empty; name at least one adapter.", field=field)
            return list(dict.fromkeys(asked))
        known = self.known()
        if len(known) == 1:
            return known
        there = f"the adapters are {listed(known, most=40)}" if known else "there are none yet"
        raise Invalid(f"Set `{field}` to an adapter of this server; {there}.", field=field)

    def statuses(self) -> list[AdapterStatus]:
        """Returns the status of each adapter that the API key may use."""
        return [one for one in self.context.service.adapters.statuses() if self.may_use(one.name)]

    def status(self, name: str) -> AdapterStatus:
        """Returns the status of an adapter, without loading it.

        Args:
            name: Name of the adapter.

        Raises:
            AdapterNotFound: If there is no such adapter, or the API key may not use it.
        """
        self.check(name)
        for one in self.statuses():
            if one.name == name:
                return one
        raise AdapterNotFound("There is no such adapter; GET /v1/adapters lists the adapters.")

    def known(self) -> list[str]:
        """Returns the names of the adapters that the API key may use, available or not."""
        return [one.name for one in self.statuses()]

    def available(self) -> list[str]:
        """Returns the names of the adapters that the API key may use and that can answer."""
        return [one.name for one in self.statuses() if one.is_available]

    def may_use(self, name: str) -> bool:
        """Returns whether the API key may use an adapter.

        Args:
            name: Name of the adapter.
        """
        return self.key is None or self.key.may_use(name)

    def need_admin(self) -> None:
        """Checks that the API key may load and unload adapters.

        Raises:
            NotAllowed: If it may not.
        """
        if self.context.keys and (self.key is None or not self.key.admin):
            raise NotAllowed(
                "This API key does not allow loading and unloading adapters; use one with admin = true."
            )

    def check(self, name: str) -> None:
        """Checks that the API key may use an adapter.

        The error does not reveal whether an adapter of that name exists.

        Args:
            name: Name of the adapter.

        Raises:
            AdapterNotFound: If it may not.
        """
        if not self.may_use(name):
            raise self.not_found()

    def not_found(self) -> AdapterNotFound:
        """Returns the error for all adapters that the API key may not use."""
        return AdapterNotFound(
            "There is no such adapter for this API key; it may use "
            f"{listed(self.known(), most=40) or 'none'}."
        )

    @staticmethod
    def check_version(name: str, version: str | None, generation: int) -> None:
        """Checks that a version of an adapter is the current one; the version is the generation.

        Args:
            name: Name of the adapter.
            version: Version in the request; None for any.
            generation: Generation of the adapter.

        Raises:
            AdapterNotFound: If it is another version.
        """
        if version not in (None, str(generation)):
            raise AdapterNotFound(
                f"The adapter {name!r} does not have this version; its version is {generation}. It changes "
                "each time the adapter is loaded; leave the version out to use the current one."
            )

    async def adapter(self, name: str, version: str | None = None) -> LoadedAdapter:
        """Returns an adapter, and loads it if necessary; see `Adapters.get`.

        Args:
            name: Name of the adapter.
            version: Version of the adapter; None for the current one.

        Raises:
            AdapterNotFound: If there is no such adapter or version, or the API key may not use it.
            Failure: As in `Adapters.get`.
        """
        self.check(name)
        with self._without_other_names():
            loaded = await self.context.service.adapters.get(name)
        self.check_version(name, version, loaded.generation)
        return loaded

    async def predict(
        self, names: Sequence[str], texts: Sequence[Any], *, truncate: bool = True, version: str | None = None
    ) -> RequestResult:
        """Predicts texts and stores the results; see `Service.predict`.

        Args:
            names: Names of the adapters.
            texts: Texts to predict.
            truncate: Whether to truncate long texts. If False, they are refused.
            version: Version of the only adapter; None for the current one.

        Returns:
            The results of the adapters.

        Raises:
            AdapterNotFound: If there is no such adapter or version, or the API key may not use it.
            Failure: As in `Service.predict`.
        """
        for name in names:
            self.check(name)
            if version is not None:
                await self.adapter(name, version)
        with self._without_other_names():
            self.answers = await self.context.service.predict(
                names, texts, key=self.key, deadline=self.deadline, truncate=truncate
            )
        for name in names:
            # It may have been reloaded in the meantime.
            self.check_version(name, version, self.answers[name].generation)
        self.adapters = names
        return self.answers

    async def explain(self, name: str, text: Any, label: str | None) -> Explanation:
        """Explains which words of a text led to a prediction; see `Service.explain`.

        Args:
            name: Name of the adapter.
            text: A text, or a pair of texts as a list.
            label: Label to explain, or None for the most probable label.

        Returns:
            The words of the text with their weights.

        Raises:
            AdapterNotFound: If there is no such adapter, or the API key may not use it.
            Failure: As in `Service.explain`.
        """
        self.check(name)
        with self._without_other_names():
            explanation = await self.context.service.explain(
                name, text, label=label, key=self.key, deadline=self.deadline
            )
        self.adapters = [name]
        return explanation

    @contextmanager
    def _without_other_names(self) -> Iterator[None]:
        """Hides the names of other adapters from restricted API keys."""
        try:
            yield
        except AdapterNotFound:
            if self.key is None or self.key.adapters is None:
                raise
            raise self.not_found() from None


def _description(model: type[BaseModel], name: str) -> str:
    known = model.model_fields.get(name)
    return known.description if known is not None and known.description else "a different value"


def _expected(model: type[BaseModel]) -> str:
    needed = [f"`{name}`" for name, known in model.model_fields.items() if known.is_required()]
    return " and ".join(needed) or "the fields listed in /openapi.json"
