"""A local stand-in for the Hugging Face hub: the routes that downloads and pushes use."""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import yaml

COMMIT = "0123456789abcdef0123456789abcdef01234567"
# The first may write for "org", the second may only read; every other token is invalid.
TOKEN, READ_TOKEN = "hf_right", "hf_only_reads"
LARGE = ("*.safetensors",)


@dataclass
class Repository:
    """A repository: the files of each commit, and the commit of each branch."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str, files: dict[str, bytes], message: str, name: str | None = None) -> str:
        made = name or hashlib.sha1(f"{len(self.commits)} {message}".encode()).hexdigest()
        self.commits[made] = files
        self.branches[branch] = made
        self.messages.append(message)
        return made

    def find(self, revision: str) -> str | None:
        """The commit of a branch, or the commit of that name."""
        return self.branches.get(revision, revision if revision in self.commits else None)


@dataclass
class Hub:
    """The contents of the stand-in, and the failures to simulate.

    Attributes:
        failures: A pattern of "METHOD path" to the status to answer with, or 0 to close the connection.
        oddities: A pattern of "METHOD path" to a function that answers the request in an unusual way.
        spoils: Names of files that a commit stores with other bytes.
        asked: "METHOD path" of each request.
    """

    address: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    oddities: dict[str, Callable[[Any], None]] = field(default_factory=dict)
    spoils: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def add(self, name: str, folder: Path, **options: Any) -> None:
        """Adds a folder as a repository."""
        files = {
            file.relative_to(folder).as_posix(): file.read_bytes()
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        }
        self.repositories[name] = Repository(**options)
        self.repositories[name].commit("main", files, "first", COMMIT)

    def files(self, name: str, branch: str = "main") -> dict[str, bytes]:
        repository = self.repositories[name]
        return repository.commits[repository.branches[branch]]


def is_large(path: str) -> bool:
    return any(fnmatch.fnmatch(path, pattern) for pattern in LARGE)


def git_sum(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest()


class _Refused(Exception):
    def __init__(self, status: int, code: str = "", message: str = "", body: Any = None) -> None:
        self.status, self.code, self.message, self.body = status, code, message, body


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(self.path.partition("?")[0])
        asked = f"{self.command} {path}"
        self.hub.asked.append(asked)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        for pattern, status in self.hub.failures.items():
            if fnmatch.fnmatch(asked, pattern):
                if not status:
                    self.close_connection = True
                    return
                # Some servers repeat the request's headers.
                said = f"refused what {self.headers.get('Authorization')} asked for"
                self._send(status, {"error": said}, {"X-Error-Message": said})
                return
        for pattern, odd in self.hub.oddities.items():
            if fnmatch.fnmatch(asked, pattern):
                odd(self)
                return
        try:
            for method, pattern, answer in _ROUTES:
                if self.command in method and (found := re.fullmatch(pattern, path)):
                    answer(self, *found.groups(), body)
                    return
            raise _Refused(404, message="No such route")
        except _Refused as error:
            headers = {"X-Error-Code": error.code, "X-Error-Message": error.message}
            said = error.body or {"error": error.message}
            self._send(error.status, said, {key: value for key, value in headers.items() if value})

    @property
    def _token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def _may_write(self, owner: str) -> None:
        if self._token not in (TOKEN, READ_TOKEN):
            raise _Refused(401, message="Invalid credentials in Authorization header")
        if self._token != TOKEN or owner != "org":
            raise _Refused(403, message=f'You don\'t have the rights to write under the namespace "{owner}"')

    def _open(self, name: str, revision: str) -> tuple[Repository, str]:
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and self._token not in (TOKEN, READ_TOKEN)):
            raise _Refused(404, "RepoNotFound", "Repository not found")
        if repository.gated and self._token not in (TOKEN, READ_TOKEN):
            raise _Refused(403, "GatedRepo", "Access is restricted")
        commit = repository.find(revision)
        if commit is None:
            raise _Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repository, commit

    def _create(self, body: bytes) -> None:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        self._may_write(asked["organization"])
        answer = {"url": f"{self.hub.address}/{name}", "id": name}
        if name in self.hub.repositories:
            raise _Refused(409, message="You already created this model repo", body=answer)
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.hub.repositories[name] = repository = Repository(private=private)
        repository.commit("main", {".gitattributes": b"*.safetensors filter=lfs\n"}, f"initial commit {name}")
        self._send(200, answer)

    def _validate(self, body: bytes) -> None:
        errors, warned = [], []
        front = re.match(r"---\n(.*?)\n---\n", json.loads(body)["content"], re.DOTALL)
        try:
            content = yaml.safe_load(front[1]) if front else None
        except yaml.YAMLError as error:
            raise _Refused(400, body={"errors": [{"message": str(error)}], "warnings": []}) from None
        if content is None:
            # This answer may repeat the token as well.
            said = f"empty or missing yaml metadata in repo card, with {self.headers.get('Authorization')}"
            warned = [{"message": said}]
        elif not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", content.get("base_model", "none")):
            errors = [
                {"message": '"base_model" with value is not valid. Use a model id from https://hf.co/models.'}
            ]
        if errors:
            raise _Refused(400, body={"errors": errors, "warnings": warned})
        self._send(200, {"errors": [], "warnings": warned})

    def _preupload(self, name: str, revision: str, body: bytes) -> None:
        self._may_write(name.partition("/")[0])
        repository, commit = self._open(name, revision)
        files = []
        for asked in json.loads(body)["files"]:
            path = asked["path"]
            there = repository.commits[commit].get(path)
            files.append(
                {
                    "path": path,
                    "uploadMode": "lfs" if is_large(path) else "regular",
                    "shouldIgnore": False,
                    "oid": None if there is None else _listed(path, there)["oid"],
                }
            )
        self._send(200, {"files": files})

    def _batch(self, name: str, body: bytes) -> None:
        self._may_write(name.partition("/")[0])
        objects = []
        for asked in json.loads(body)["objects"]:
            actions = {
                "upload": {"href": f"{self.hub.address}/large/{asked['oid']}"},
                "verify": {"href": f"{self.hub.address}/verify/large"},
            }
            objects.append(asked | ({} if asked["oid"] in self.hub.large else {"actions": actions}))
        self._send(200, {"transfer": "basic", "objects": objects})

    def _store(self, oid: str, body: bytes) -> None:
        if self._token:
            raise _Refused(400, message="Storage elsewhere is given no token")
        if hashlib.sha256(body).hexdigest() != oid:
            raise _Refused(400, message="The sum is another one")
        self.hub.large[oid] = body
        self._send(200, {})

    def _verify(self, body: bytes) -> None:
        asked = json.loads(body)
        if len(self.hub.large.get(asked["oid"], b"")) != asked["size"]:
            raise _Refused(404, message="Not uploaded")
        self._send(200, {})

    def _commit(self, name: str, branch: str, body: bytes) -> None:
        self._may_write(name.partition("/")[0])
        repository, parent = self._open(name, branch)
        files = dict(repository.commits[parent])
        message = ""
        for line in body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            match operation["key"]:
                case "header":
                    message = value["summary"]
                    if value.get("parentCommit", parent) != parent:
                        raise _Refused(
                            412, message="A commit has happened since. Please refresh and try again."
                        )
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.hub.large[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
        files |= dict.fromkeys(self.hub.spoils & set(files), b"spoiled")
        made = repository.commit(branch, files, message)
        url = f"{self.hub.address}/{name}/commit/{made}"
        self._send(200, {"commitUrl": url, "commitOid": made, "success": True})

    def _branch(self, name: str, branch: str, body: bytes) -> None:
        self._may_write(name.partition("/")[0])
        repository, commit = self._open(name, "main")
        if branch in repository.branches:
            raise _Refused(409, message="Reference already exists")
        repository.branches[branch] = commit
        self._send(200, {})

    def _info(self, name: str, _: str | None, revision: str | None, body: bytes) -> None:
        repository, commit = self._open(name, revision or "main")
        siblings = [{"rfilename": path} for path in repository.commits[commit]]
        info = {"id": name, "modelId": name, "sha": commit, "siblings": siblings, "tags": []}
        info |= {"private": repository.private, "gated": repository.gated, "disabled": False}
        self._send(200, info | {"downloads": 0, "likes": 0})

    def _tree(self, name: str, revision: str, body: bytes) -> None:
        repository, commit = self._open(name, revision)
        self._send(200, [_listed(path, content) for path, content in repository.commits[commit].items()])

    def _resolve(self, name: str, revision: str, path: str, body: bytes) -> None:
        repository, commit = self._open(name, revision)
        content = repository.commits[commit].get(path)
        if content is None:
            raise _Refused(404, "EntryNotFound", "Entry not found")
        self._send(200, content, file_headers(path, content, commit))

    def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        named = {"Content-Length": str(len(content)), "Content-Type": kind, **(headers or {})}
        for key, value in named.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def sends(body: Any, headers: dict[str, str] | None = None, status: int = 200) -> Callable[[Any], None]:
    """An oddity: another answer than the real one, such as a page of a captive portal, or a redirect."""
    return lambda handler: handler._send(status, body, headers)


_NAME = r"([^/]+/[^/]+)"
_ROUTES = [
    ("POST", "/api/repos/create", _Handler._create),
    ("POST", "/api/validate-yaml", _Handler._validate),
    ("POST", f"/api/models/{_NAME}/preupload/(.+)", _Handler._preupload),
    ("POST", f"/{_NAME}\\.git/info/lfs/objects/batch", _Handler._batch),
    ("POST", f"/api/models/{_NAME}/commit/(.+)", _Handler._commit),
    ("POST", f"/api/models/{_NAME}/branch/(.+)", _Handler._branch),
    ("PUT", "/large/([0-9a-f]+)", _Handler._store),
    ("POST", "/verify/large", _Handler._verify),
    ("GET HEAD", f"/api/models/{_NAME}/tree/(.+)", _Handler._tree),
    ("GET HEAD", f"/api/models/{_NAME}(/revision/(.+))?", _Handler._info),
    ("GET HEAD", f"/{_NAME}/resolve/([^/]+)/(.+)", _Handler._resolve),
]


def _listed(path: str, content: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": git_sum(content)}
    if is_large(path):
        entry["lfs"] = {
            "oid": hashlib.sha256(content).hexdigest(),
            "size": len(content),
            "pointerSize": 134,
        }
    return entry


def file_headers(path: str, content: bytes, commit: str = COMMIT) -> dict[str, str]:
    """The headers of the answer with a file."""
    entry = _listed(path, content)
    headers = {"ETag": f'"{entry["oid"]}"', "X-Repo-Commit": commit}
    if "lfs" in entry:
        headers |= {"X-Linked-ETag": f'"{entry["lfs"]["oid"]}"', "X-Linked-Size": str(len(content))}
    return headers


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Starts an empty hub."""
    held = Hub()
    handler = type("Handler", (_Handler,), {"hub": held})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    held.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield held
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def hub(folder: Path) -> Iterator[str]:
    """Serves a folder as org/open, org/gated and org/private; yields the address."""
    with running_hub() as held:
        held.add("org/open", folder)
        held.add("org/gated", folder, gated=True)
        held.add("org/private", folder, private=True)
        held.failures["* /api/models/org/broken*"] = 503
        yield held.address


def use(held: Hub, monkeypatch: Any, home: Path, token: str | None = TOKEN) -> None:
    """Makes huggingface_hub in this process use the stand-in, with its own cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", held.address)
    template = held.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
