"""One request on its way: who asks, how long it may take, and what there is to be told of it."""

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
    from keras_peft.serve.http.context import ServerContext
    from keras_peft.serve.keys import Key
    from keras_peft.serve.loaded_adapter import LoadedAdapter
    from keras_peft.serve.result import RequestResult

_SCOPE = "keras_peft.call"
_Body = TypeVar("_Body", bound=BaseModel)


@dataclass(slots=True, eq=False)
class Call:
    """One request.

    Attributes:
        context: The server.
        id: What the logs call it.
        started: When its first byte came, as `time.monotonic()`.
        headers: Those of the request; of one that was sent twice the last.
        key: The key that it came with, if any.
        body: The whole body.
        adapters: The adapters that it was about, once they are known to be there.
        answers: What they answered.
        kind: The kind of its failure, empty where it was answered.
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

    @property
    def deadline(self) -> float:
        """When it is given up, as `time.monotonic()`."""
        return self.started + self.context.settings.deadline_ms / 1000

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.monotonic() - self.started

    def enter(self, scope: Any) -> None:
        """Puts it where `Call.of` finds it."""
        scope[_SCOPE] = self

    @staticmethod
    def of(request: Request) -> Call:
        """Finds the call of a request."""
        call: Call = request.scope[_SCOPE]
        return call

    @staticmethod
    def within(scope: Any) -> Call:
        """Finds the call of an ASGI scope."""
        call: Call = scope[_SCOPE]
        return call

    def read(self, model: type[_Body], body: bytes | bytearray | None = None) -> _Body:
        """Reads the body.

        Args:
            model: What it has to be.
            body: The part of it that is JSON; the whole by default.

        Raises:
            Malformed: If it is empty or no JSON.
            Invalid: If it is something else; all that is wrong is in the message, and nothing
                of what was sent.
        """
        body = self.body if body is None else body
        if not body.strip():
            raise Malformed(f"The body is empty; expected a JSON object with {_expected(model)}.")
        try:
            # "1" is no number here and 0 is not false, as the OpenAPI document says.
            return model.model_validate_json(body, strict=True)
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=False, include_input=False)
        if problems[0]["type"] == "json_invalid":
            raise Malformed(f"The body is no JSON: {problems[0]['msg'].removeprefix('Invalid JSON: ')}.")
        fields = list(dict.fromkeys(str(problem["loc"][0]) for problem in problems if problem["loc"]))
        if not fields:
            raise Invalid(f"Expected a JSON object with {_expected(model)}.")
        raise Invalid(" ".join(f"`{name}`: expected {_description(model, name)}." for name in fields))

    def names(self, asked: str | Sequence[str] | None, field: str) -> list[str]:
        """Finds the adapters that a request names; where it names none, the only one.

        Args:
            asked: The name or names, or None.
            field: What the client calls it.

        Raises:
            Invalid: If there is none or more than one to choose from.
        """
        if isinstance(asked, str):
            return [asked]
        if asked is not None:
            if not asked:
                raise Invalid(f"`{field}` is empty; name at least one adapter.")
            return list(dict.fromkeys(asked))
        known = self.known()
        if len(known) == 1:
            return known
        there = f"it has {listed(known, most=40)}" if known else "it has none yet"
        raise Invalid(f"Name an adapter of this server with `{field}`: {there}.")

    def known(self) -> list[str]:
        """Lists the adapters that the key may use, loaded or not."""
        return [state.name for state in self.context.service.adapters.statuses() if self.may_use(state.name)]

    def may_use(self, name: str) -> bool:
        """Tells whether the key is for an adapter."""
        return self.key is None or self.key.may_use(name)

    def need_admin(self) -> None:
        """Checks that the key may load and unload.

        Raises:
            NotAllowed: If it may not.
        """
        if self.context.keys and (self.key is None or not self.key.admin):
            raise NotAllowed("This key may predict; to load and unload takes one with admin = true.")

    def check(self, name: str) -> None:
        """Checks that the key is for an adapter.

        Others are answered as those that are not there, so that a key cannot find out their
        names.

        Raises:
            AdapterNotFound: If it is not.
        """
        if not self.may_use(name):
            raise self.not_found()

    def not_found(self) -> AdapterNotFound:
        """Makes what a key with adapters of its own is told of all others."""
        return AdapterNotFound(
            f"There is no such adapter for this key; it may use {listed(self.known(), most=40) or 'none'}."
        )

    async def adapter(self, name: str) -> LoadedAdapter:
        """Finds an adapter, and loads it if need be; see `Adapters.get`."""
        self.check(name)
        with self._without_other_names():
            return await self.context.service.adapters.get(name)

    async def predict(
        self, names: Sequence[str], texts: Sequence[Any], *, truncate: bool = True
    ) -> RequestResult:
        """Predicts texts; see `Service.predict`."""
        for name in names:
            self.check(name)
        with self._without_other_names():
            self.answers = await self.context.service.predict(
                names, texts, key=self.key, deadline=self.deadline, truncate=truncate
            )
        self.adapters = names
        return self.answers

    async def explain(self, name: str, text: Any, label: str | None) -> Explanation:
        """Tells which words carried a decision; see `Service.explain`."""
        self.check(name)
        with self._without_other_names():
            explanation = await self.context.service.explain(
                name, text, label=label, key=self.key, deadline=self.deadline
            )
        self.adapters = [name]
        return explanation

    @contextmanager
    def _without_other_names(self) -> Iterator[None]:
        """Keeps what there is from a key with adapters of its own."""
        try:
            yield
        except AdapterNotFound:
            if self.key is None or self.key.adapters is None:
                raise
            raise self.not_found() from None


def _description(model: type[BaseModel], name: str) -> str:
    known = model.model_fields.get(name)
    return known.description if known is not None and known.description else "something else"


def _expected(model: type[BaseModel]) -> str:
    needed = [f"`{name}`" for name, known in model.model_fields.items() if known.is_required()]
    return " and ".join(needed) or "what the OpenAPI document says"
