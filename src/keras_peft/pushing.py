"""Push a bundle or an export to the Hugging Face Hub in one commit, and verify the result.

huggingface_hub finds the token itself, in `HF_TOKEN` or where `hf auth login` stored it. It is neither
stored nor shown here.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
import tempfile
import tomllib
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from keras_peft import bundle as bundles
from keras_peft._version import __version__
from keras_peft.bundle.content import checksum
from keras_peft.errors import HubError, KerasPeftError, listed
from keras_peft.extras import need
from keras_peft.files import sha256_of, write_json
from keras_peft.json_files import JsonError, read_object
from keras_peft.sources import hub

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.hf_api import RepoFile

_MAIN = "main"

# Files that identify a bundle, an adapter and a whole model, the most specific first.
_ADAPTER = "adapter_config.json"
_MARKS = (bundles.CONTENT, _ADAPTER, "config.json")
_ENDINGS = (".json", ".safetensors", ".md", ".txt")
# Files of an earlier exported push with these endings must not remain next to the new ones.
_MACHINE_READ = (".json", ".safetensors")

# Files of a bundle that may name the base's folder, or the folders of the data.
_FLAGS = "run.toml"
_TEXTS = ("report.json", "report.html", bundles.CARD, _FLAGS)
_PATH_FLAG = re.compile(r'^(data|validation|unlabelled|base) = ".*"$', re.MULTILINE)

_NOTE_ON_BASE = (
    "its base model is {base}, a folder on this machine, of which only the name is pushed: users on other machines "
    "pass their own path as `base`."
)

_ADVICE = {
    400: "the request is invalid",
    401: (
        "the token is not valid: it may have expired or been revoked; create a new one with "
        "write permission at https://huggingface.co/settings/tokens and set it as HF_TOKEN"
    ),
    403: (
        "the token has no write permission there: use one that has it, and check that the owner "
        "is you or an organisation that you can write to"
    ),
    404: (
        "the owner or repository does not exist, or you have no access to it: check the spelling "
        "and the token"
    ),
    409: "someone else is changing the repository: look at it, and push again",
    412: "someone else changed the repository in the meantime: look at it, and push again",
    413: "the upload is too large",
    429: "there were too many requests: wait a few minutes and push again",
}


@dataclass(frozen=True)
class Pushed:
    """The result of a push.

    Attributes:
        name: `hf://owner/name@commit`, a permanent reference to exactly these files.
        url: URL of the repository.
        commit: The commit hash.
        files: SHA-256 of each pushed file.
        size: Total size of the files in bytes.
        deleted: Files of an earlier push that were deleted.
        unchanged: Whether the repository already had the same content, so that no commit was made.
        notes: Notes for the user, such as other files in the repository.
    """

    name: str
    url: str
    commit: str
    files: Mapping[str, str]
    size: int
    deleted: tuple[str, ...]
    unchanged: bool
    notes: tuple[str, ...]


def push(
    folder: str | Path,
    to: str,
    *,
    branch: str | None = None,
    private: bool = False,
    message: str | None = None,
) -> Pushed:
    """Pushes a bundle or an exported folder to the Hugging Face Hub in one commit.

    The repository is created if needed. After the push, its content is compared with the folder. A
    token with write access is read from `HF_TOKEN`, or from where `hf auth login` stored it.
    huggingface_hub shows its own progress bars.

    Args:
        folder: The folder to push. A bundle must be valid.
        to: Repository, as `hf://owner/name`.
        branch: Branch to push to. Created if it does not exist.
        private: Whether to create the repository as private. An existing public repository is
            refused.
        message: First line of the commit message.

    Returns:
        The commit and the files that it contains.

    Raises:
        BundleError: If the bundle is not valid.
        AdapterError: If the folder is neither a bundle nor in a known export format.
        HubError: If the Hub refuses the push or fails, the repository has other content, or the
            files on the Hub differ from those pushed.

    Example:
        >>> keras_peft.push("my-bundle", "hf://owner/my-bundle").name
        'hf://owner/my-bundle@0123456789abcdef0123456789abcdef01234567'
        >>> keras_peft.load("hf://owner/my-bundle").predict(["Which model is faster?"])
    """
    need("Pushing to the Hugging Face Hub", "huggingface_hub")
    folder = Path(folder).expanduser()
    repository = _repository(to)
    if reason := hub.unfit_token():
        raise HubError(f"Cannot push to {to}: {reason}.")
    with tempfile.TemporaryDirectory() as scratch:
        files, notes = _files_of(folder, Path(scratch))
        with _told(to):
            return _push(
                folder, repository, branch or _MAIN, files, private=private, message=message, notes=notes
            )


def _push(
    folder: Path,
    repository: str,
    branch: str,
    files: Mapping[str, Path],
    *,
    private: bool,
    message: str | None,
    notes: list[str],
) -> Pushed:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token

    name = f"{hub.SCHEME}{repository}"
    if not get_token():
        raise HubError(
            "Pushing requires a token, and none is set: create one with write permission at "
            "https://huggingface.co/settings/tokens, and set it as HF_TOKEN or log in with 'hf auth "
            "login'."
        )
    api = HfApi(library_name="keras-peft", library_version=__version__)
    api.create_repo(repository, private=private or None, exist_ok=True)
    info = api.model_info(repository)
    if private and not info.private:
        raise HubError(
            f"{name} already exists and is public, so nothing was pushed: make it private on its "
            "page, or leave out `private`."
        )
    if branch != _MAIN:
        api.create_branch(repository, branch=branch, exist_ok=True)
        info = api.model_info(repository, revision=branch)
    commit = str(info.sha)
    before = _list(api, repository, commit)
    stale = _stale(name, files, before)
    others = [path for path in before if path not in {*files, *stale} and not path.startswith(".")]
    if others:
        notes.append(f"{name} contains other files, which are not changed: {listed(others)}.")
    unchanged = not stale and not _differing(files, before)
    if not unchanged:
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            *(CommitOperationAdd(path, file) for path, file in files.items()),
            *(CommitOperationDelete(path) for path in stale),
        ]
        # The Hub reports problems of the model card as warnings.
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            made = api.create_commit(
                repository,
                operations,
                commit_message=message or f"Push {folder.absolute().name} with keras-peft {__version__}",
                revision=branch,
                parent_commit=info.sha,
            )
        notes += [_said(str(one.message)) for one in told if issubclass(one.category, UserWarning)]
        commit = made.oid
        after = _list(api, repository, commit)
        wrong = [*_differing(files, after), *(f"{path} still exists" for path in stale if path in after)]
        if wrong:
            raise HubError(
                f"{name} was pushed as commit {commit}, but its files are not as expected: "
                f"{listed(wrong)}. Push again, or check the files on its page."
            )
    return Pushed(
        name=f"{name}@{commit}",
        url=f"{api.endpoint}/{repository}",
        commit=commit,
        files={path: sha256_of(file) for path, file in files.items()},
        size=sum(file.stat().st_size for file in files.values()),
        deleted=tuple(stale),
        unchanged=unchanged,
        notes=tuple(notes),
    )


def _repository(to: str) -> str:
    """Returns the "owner/name" of the repository to push to."""
    repository = to.removeprefix(hub.SCHEME)
    if not hub.is_hub_name(to) or repository.count("/") != 1 or "@" in repository:
        hint = " Set `branch` to push to a branch." if "@" in repository else ""
        raise HubError(f"{to!r} is not a repository to push to; expected hf://owner/name.{hint}")
    return repository


def _files_of(folder: Path, scratch: Path) -> tuple[dict[str, Path], list[str]]:
    """Returns the files to push by their names in the repository, and notes on them.

    Args:
        folder: The folder to push.
        scratch: An empty folder for copies of files that name folders of this machine.

    Raises:
        BundleError: If the folder is an invalid bundle.
        AdapterError: If the folder's format is not recognised.
        HubError: If the folder contains files that must not be pushed.
    """
    if not folder.is_dir():
        raise HubError(
            f"{folder} is not a folder; pass a bundle, or a folder written by 'keras-peft export'."
        )
    if (folder / bundles.CONTENT).is_file():
        bundle = bundles.read(folder)
        names = (bundles.CONTENT, *bundle.content["files"])
        files = {name: folder / name for name in names}
        return files | _without_paths(bundle, files, scratch), list(_notes_on(bundle))
    from keras_peft import forms

    forms.recognise(folder)
    files = {
        file.relative_to(folder).as_posix(): file
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    }
    foreign = [path for path in files if not path.endswith(_ENDINGS)]
    if foreign:
        raise HubError(
            f"{folder} contains {listed(foreign)}, which 'keras-peft export' does not write; only "
            f"files that end in {listed(_ENDINGS)} are pushed. Move the other files away."
        )
    base = _folder_in(folder / _ADAPTER)
    if base is None:
        return files, []
    return files | _without_base(base, files, scratch), [_NOTE_ON_BASE.format(base=base)]


def _without_paths(bundle: bundles.Bundle, files: Mapping[str, Path], scratch: Path) -> dict[str, Path]:
    """Writes copies of the files of a bundle that name folders of this machine, without the folders.

    Args:
        bundle: The bundle.
        files: Its files by name.
        scratch: An empty folder for the copies.

    Returns:
        The copies by name, with a bundle.json that has their checksums; empty if there are none.
    """
    base = bundle.base_name if Path(bundle.base_name).is_absolute() else None
    changed = {}
    for name in (one for one in _TEXTS if one in files):
        text = before = files[name].read_text(encoding="utf-8")
        if name == _FLAGS:
            text = _PATH_FLAG.sub(_name_only, text)
        elif base is not None:
            text = _with_name_of(base, text)
        if text != before:
            changed[name] = scratch / name
            changed[name].write_text(text, encoding="utf-8")
    if not changed and base is None:
        return {}
    content = json.loads(files[bundles.CONTENT].read_text(encoding="utf-8"))
    if base is not None:
        content["base"]["name"] = Path(base).name
    content["files"] |= {name: sha256_of(file) for name, file in changed.items()}
    content["checksum"] = checksum(content)
    changed[bundles.CONTENT] = scratch / bundles.CONTENT
    write_json(changed[bundles.CONTENT], content)
    return changed


def _folder_in(config: Path) -> str | None:
    """Returns the base's folder on this machine that an adapter's configuration names, or None."""
    try:
        content = read_object(config)
    except (OSError, JsonError):
        return None
    names = (content.get(key) for key in ("base_model_name_or_path", "model_name"))
    return next((name for name in names if isinstance(name, str) and Path(name).is_absolute()), None)


def _without_base(base: str, files: Mapping[str, Path], scratch: Path) -> dict[str, Path]:
    """Writes copies of the files of an export that name the base's folder, with only its name."""
    changed = {}
    for name, file in files.items():
        if not name.endswith((".json", ".md")):
            continue
        before = file.read_text(encoding="utf-8")
        if (text := _with_name_of(base, before)) != before:
            changed[name] = scratch / name
            changed[name].parent.mkdir(parents=True, exist_ok=True)
            changed[name].write_text(text, encoding="utf-8")
    return changed


def _with_name_of(base: str, text: str) -> str:
    """Replaces a folder by its name, as it is written in JSON, in HTML, and in Markdown and code."""
    for form in dict.fromkeys((json.dumps(base, ensure_ascii=False)[1:-1], html.escape(base), base)):
        text = text.replace(form, Path(base).name)
    return text


def _name_only(found: re.Match[str]) -> str:
    """Returns a line of run.toml whose path has only its last part; names of the Hub and of presets stay."""
    (value,) = tomllib.loads(found[0]).values()
    is_path = Path(value).is_absolute() or value.startswith(("../", "..\\"))
    name = re.split(r"[/\\]", value.rstrip("/\\"))[-1]
    return f"{found[1]} = {json.dumps(name, ensure_ascii=False)}" if is_path else found[0]


def _notes_on(bundle: bundles.Bundle) -> Iterator[str]:
    """Yields notes on what may surprise the user who pushes a bundle."""
    if Path(bundle.base_name).is_absolute():
        yield _NOTE_ON_BASE.format(base=bundle.base_name)
    report = bundle.report()
    if texts := len(report.get("worst", ())) + len(report.get("doubtful", ())):
        yield (
            f"its report shows {texts} texts of the validation rows to everyone who can read the repository."
        )


def _list(api: HfApi, repository: str, revision: str) -> dict[str, RepoFile]:
    """Lists the files of a repository."""
    from huggingface_hub.hf_api import RepoFile

    entries = api.list_repo_tree(repository, recursive=True, revision=revision)
    return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}


def _stale(name: str, files: Mapping[str, Path], there: Mapping[str, RepoFile]) -> list[str]:
    """Returns the files of an earlier push of the same kind that are not part of the new one.

    Raises:
        HubError: If the repository holds content of another kind.
    """
    kind, kind_there = (next((mark for mark in _MARKS if mark in names), None) for names in (files, there))
    if kind_there not in (kind, None):
        raise HubError(
            f"{name} contains {kind_there}, so it is of another kind than a folder with {kind}; "
            "nothing was pushed. Choose another name, or delete its files on its page."
        )
    if kind_there is None:
        return []
    gone = [path for path in there if path not in files]
    if kind == bundles.CONTENT:
        return [path for path in gone if path in bundles.FILES]
    return [path for path in gone if path.endswith(_MACHINE_READ)]


def _differing(files: Mapping[str, Path], there: Mapping[str, RepoFile]) -> list[str]:
    """Compares local files with those on the Hub by size and checksum."""
    wrong = []
    for path, file in files.items():
        entry = there.get(path)
        if entry is None:
            wrong.append(f"{path} is missing")
            continue
        same = entry.lfs.sha256 == sha256_of(file) if entry.lfs else entry.blob_id == _git_sum(file)
        if entry.size != file.stat().st_size or not same:
            wrong.append(f"{path} is different")
    return wrong


def _git_sum(file: Path) -> str:
    """Returns git's blob hash of a file, which the Hub reports for small files."""
    content = file.read_bytes()
    return hashlib.sha1(b"blob %d\0%b" % (len(content), content), usedforsecurity=False).hexdigest()


@contextmanager
def _told(to: str) -> Iterator[None]:
    """Converts errors during a push to readable messages that do not contain the token."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        with hub.time_limit():
            yield
    except KerasPeftError:
        raise
    except HFValidationError:
        raise HubError(f"{to!r} is not of the form hf://owner/name.") from None
    except Exception as error:
        cause: BaseException = error
        # An upload thread wraps the original error.
        while not isinstance(cause, HfHubHTTPError) and not hub.is_of_network(cause) and cause.__cause__:
            cause = cause.__cause__
        # For an invalid model card, the explanation is in a ValueError raised from the HTTP error.
        is_explained = isinstance(error, ValueError) and not isinstance(error, HfHubHTTPError)
        if isinstance(cause, HfHubHTTPError) and not is_explained:
            raise HubError(_refused(to, cause)) from None
        if hub.is_of_network(cause):
            raise HubError(
                f"{to} could not be reached ({_said(str(cause) or type(cause).__name__)}); check the "
                "network and any proxy, and push again: files that were already uploaded are not sent "
                "again."
            ) from None
        if isinstance(error, OSError | RuntimeError | ValueError):
            raise HubError(
                f"{to} could not be pushed: {_said(str(error if is_explained else cause))}"
            ) from None
        # huggingface_hub does not check the answers that it reads.
        raise HubError(
            f"{to} could not be pushed: the server does not answer like the Hugging Face Hub "
            f"({_said(str(error) or type(error).__name__)}); check HF_ENDPOINT and any proxy, and push again."
        ) from error


def _refused(to: str, error: HfHubHTTPError) -> str:
    """Describes the Hub's answer and what the user can do about it."""
    status = error.response.status_code
    advice = _ADVICE.get(status, "this is a failure of the Hub, so push again later")
    said = f', and "{_said(error.server_message)}"' if error.server_message else ""
    return (
        f"{to} was not pushed. The Hub responded with status {status} ({hub.token_state()}){said}: {advice}."
    )


def _said(text: str) -> str:
    """Shortens a server or library message to one line and removes the token from it."""
    from huggingface_hub import get_token

    if token := get_token():
        text = text.replace(token, "…")
    return " ".join(text.split())[:300]
