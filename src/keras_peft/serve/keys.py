"""API keys from the environment and from a file, and their permissions.

The environment variable KERAS_PEFT_API_KEY sets a key for predictions; KERAS_PEFT_ADMIN_KEY sets
one that may also load and unload adapters. A TOML file can list any number of named keys:

    [[key]]
    name = "billing"
    sha256 = "9f86d081…"          # of the key, so that the file holds no secret; or: key = "…"
    adapters = ["intents"]        # adapters that it may use; by default all
    requests_per_minute = 600     # by default as the server's settings say

    [[key]]
    name = "deploy"
    sha256 = "60303ae2…"
    admin = true
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft.errors import OptionError, did_you_mean
from keras_peft.toml_files import TomlError, read_table

if TYPE_CHECKING:
    from keras_peft.serve.settings import ServeSettings

DATA_KEY = "KERAS_PEFT_API_KEY"
ADMIN_KEY = "KERAS_PEFT_ADMIN_KEY"
# Shorter keys are too easy to guess.
_LEAST_CHARACTERS = 16
_FIELDS = ("name", "key", "sha256", "admin", "adapters", "requests_per_minute")
_DIGITS = 64


@dataclass(frozen=True, slots=True)
class Key:
    """Permissions of an API key, without its secret.

    Attributes:
        name: Name of the key in logs.
        digest: SHA-256 of the secret, 32 bytes.
        admin: Whether the key may load and unload adapters.
        adapters: Names of the adapters that the key may use, or None for all.
        requests_per_minute: Maximum requests per minute, or None for the default of the server.
    """

    name: str
    digest: bytes
    admin: bool = False
    adapters: frozenset[str] | None = None
    requests_per_minute: int | None = None

    def may_use(self, adapter: str) -> bool:
        """Returns whether the key may use an adapter.

        Args:
            adapter: Name of the adapter.
        """
        return self.adapters is None or adapter in self.adapters


class Keys:
    """The API keys of a server.

    Args:
        keys: The keys. Without any keys, requests need none.

    Example:
        >>> Keys.read(Path("keys.toml"), os.environ).find(b"0123456789abcdef").name
        'billing'
    """

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._keys = tuple(keys)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, secret: bytes) -> Key | None:
        """Returns the API key with a secret.

        It compares digests in constant time, to prevent timing attacks.

        Args:
            secret: Secret of a request.

        Returns:
            The key, or None if there is no such key.
        """
        digest = hashlib.sha256(secret).digest()
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found

    @classmethod
    def read(cls, file: Path | None = None, environment: Mapping[str, str] = os.environ) -> Keys:
        """Reads the API keys of the environment and of a file.

        Args:
            file: TOML file with keys, or None.
            environment: Environment variables.

        Returns:
            All keys.

        Raises:
            OptionError: If a key or the file is invalid. The message lists all problems.
        """
        problems: list[str] = []
        keys = [
            Key(name, hashlib.sha256(secret.encode()).digest(), admin=admin)
            for variable, name, admin in (
                (DATA_KEY, "environment", False),
                (ADMIN_KEY, "environment-admin", True),
            )
            if (secret := _of_environment(variable, environment, problems))
        ]
        if file is not None:
            keys += [_read(entry, f"{file}: key {n}", problems) for n, entry in enumerate(_entries(file), 1)]
        for what, values in (("name", [key.name for key in keys]), ("secret", [key.digest for key in keys])):
            if len(set(values)) < len(values):
                problems.append(f"Two keys have the same {what}; give each a different one.")
        if problems:
            raise OptionError(" ".join(problems))
        return cls(keys)


def check_exposure(settings: ServeSettings, keys: Keys) -> None:
    """Checks that a server that other machines can reach has API keys.

    Args:
        settings: Settings of the server.
        keys: API keys of the server.

    Raises:
        OptionError: If it has no keys and `settings.without_keys` is False.
    """
    if not keys and not settings.without_keys and not is_loopback(settings.host):
        raise OptionError(
            f"`host={settings.host}` can be reached from other machines, but there are no API keys, "
            f"so anyone could use every adapter. Set {DATA_KEY} and {ADMIN_KEY} in the environment, "
            "or pass `keys=FILE`; `without_keys=True` allows it anyway."
        )


def is_loopback(host: str) -> bool:
    """Returns whether an address is reachable only from this machine.

    Args:
        host: Address or host name.
    """
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _of_environment(variable: str, environment: Mapping[str, str], problems: list[str]) -> str:
    secret = environment.get(variable, "").strip()
    if secret and (problem := _weakness(secret)):
        problems.append(f"{variable} {problem}.")
    return secret


def _weakness(secret: str) -> str:
    if len(secret) < _LEAST_CHARACTERS:
        return (
            f"has {len(secret)} characters; expected at least {_LEAST_CHARACTERS}, such as the output "
            "of `openssl rand -hex 24`"
        )
    if not secret.isascii() or not secret.isprintable() or " " in secret:
        return (
            "contains characters that are not allowed in a header; expected ASCII letters, digits "
            "and punctuation"
        )
    return ""


def _entries(file: Path) -> Sequence[Any]:
    """Reads the [[key]] tables of a file."""
    try:
        content = read_table(file)
    except OSError as error:
        raise OptionError(f"`keys={file}` cannot be read: {error.strerror or error}.") from None
    except TomlError as error:
        raise OptionError(f"`keys={file}` {error}; expected [[key]] tables.") from None
    entries = content.get("key")
    if not isinstance(entries, list) or not entries or set(content) != {"key"}:
        raise OptionError(
            f"`keys={file}`: expected [[key]] tables with name and either sha256 or key, and nothing else."
        )
    return entries


def _read(entry: Any, where: str, problems: list[str]) -> Key:
    """Reads a [[key]] table and appends its problems to the list."""
    entry = entry if isinstance(entry, dict) else {}
    for field in entry:
        if field not in _FIELDS:
            problems.append(f"{where} has an unknown field {field!r}.{did_you_mean(field, _FIELDS)}")
    name, secret, digest = entry.get("name"), entry.get("key"), entry.get("sha256")
    admin, adapters = entry.get("admin", False), entry.get("adapters")
    if not isinstance(name, str) or not name.strip():
        problems.append(f"{where} has no name; expected one, which identifies the key in the logs.")
    if (secret is None) == (digest is None):
        problems.append(f"{where}: expected either sha256 or key.")
    if secret is not None and (
        problem := _weakness(secret) if isinstance(secret, str) else "is not a string"
    ):
        problems.append(f"{where} {problem}.")
    if digest is not None and not _is_digest(digest):
        problems.append(f"{where}: sha256 must be {_DIGITS} hexadecimal digits, as printed by `sha256sum`.")
    if not isinstance(admin, bool):
        problems.append(f"{where}: admin must be true or false, got {admin!r}.")
    if adapters is not None and not (
        isinstance(adapters, list) and all(isinstance(adapter, str) for adapter in adapters)
    ):
        problems.append(f"{where}: adapters must be a list of names, got {adapters!r}.")
        adapters = None
    rate = entry.get("requests_per_minute")
    if rate is not None and not (type(rate) is int and rate >= 1):
        problems.append(f"{where}: requests_per_minute must be a whole number of at least 1, got {rate!r}.")
        rate = None
    return Key(
        name=str(name),
        digest=bytes.fromhex(digest) if _is_digest(digest) else hashlib.sha256(str(secret).encode()).digest(),
        admin=bool(admin),
        adapters=None if adapters is None else frozenset(adapters),
        requests_per_minute=rate,
    )


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and len(value) == _DIGITS and set(value.lower()) <= set("0123456789abcdef")
