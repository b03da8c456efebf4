"""Artifacts that do what the suite must notice."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from fuzz.artifact import Artifact, Content, Wrong
from fuzz.mutations import Mutation, raw


class _Misbehaving(Artifact):
    title = "a file"

    def write(self, folder: Path) -> None:
        (folder / "file").write_bytes(b"the original")

    def mutations(self) -> Mapping[str, Sequence[Mutation]]:
        return {"*": (raw.insert,)}

    def read(self, path: Path) -> Content:
        if path.read_bytes() != b"the original":
            self.misbehave()
        return Content.of("the original")

    def misbehave(self) -> None:
        raise NotImplementedError


class Raises(_Misbehaving):
    name = "raises"

    def misbehave(self) -> None:
        raise KeyError("field")


class Panics(_Misbehaving):
    name = "panics"

    def misbehave(self) -> None:
        raise BaseException("a panic of a library in Rust")


class Infinite(_Misbehaving):
    name = "infinite"

    def misbehave(self) -> None:
        Content.of([{"score": float("inf")}])


class Chatty(_Misbehaving):
    name = "chatty"

    def misbehave(self) -> None:
        from keras_peft.errors import BundleError

        class Long(BundleError):
            def __str__(self) -> str:
                return "x" * 100_000

        raise Long


class Refuses(_Misbehaving):
    name = "refuses"

    def misbehave(self) -> None:
        from keras_peft.errors import BundleError

        raise BundleError("It is damaged; copy it again.")


class Accepts(_Misbehaving):
    """Accepts a file whose checksum is wrong, or whose content differs."""

    name = "accepts"
    is_sealed = True

    def seal(self, path: Path) -> None:
        raise ValueError

    def read(self, path: Path) -> Content:
        return Content.of(path.read_bytes())


class Computes(_Misbehaving):
    name = "computes"

    def misbehave(self) -> None:
        began = time.process_time()
        while time.process_time() - began < 0.2:
            pass


class Hangs(_Misbehaving):
    name = "hangs"

    def misbehave(self) -> None:
        time.sleep(1000)


class Aborts(_Misbehaving):
    name = "aborts"

    def misbehave(self) -> None:
        os.abort()


class Allocates(_Misbehaving):
    name = "allocates"

    def misbehave(self) -> None:
        if not bytearray(64 << 30):
            raise Wrong("there is no such memory")


class Grows(_Misbehaving):
    name = "grows"

    def misbehave(self) -> None:
        bytearray(b"x") * (1200 << 20)


ARTIFACTS = tuple(
    kind()
    for kind in (
        Raises,
        Panics,
        Infinite,
        Chatty,
        Refuses,
        Accepts,
        Computes,
        Hangs,
        Aborts,
        Allocates,
        Grows,
    )
)
