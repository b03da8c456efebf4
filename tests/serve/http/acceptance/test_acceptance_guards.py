"""Requests and files that a server must refuse."""

from __future__ import annotations

import gzip
import json
import pickle
import shutil
import socket
import time
from pathlib import Path

import httpx2 as httpx
import pytest
from fastapi.routing import iter_route_contexts

from keras_peft.serve.http.app import create
from keras_peft.serve.http.authentication import PROBES
from keras_peft.serve.http.routes import page
from serve.bundles import seal, write_bundle
from serve.fake import Service, serving
from serve.growth import growth
from serve.http.acceptance.running import ADMIN, COMMAND, DATA, TEXTS, Served, together, until

pytestmark = pytest.mark.thorough

CANARY = "zq-canary-7391 of the people"
SECRET = "secret"
MEGABYTE = 1_000_000


# ---- 9


@pytest.fixture(scope="module")
def outside(root):
    """A valid bundle outside the folder that is served."""
    folder = write_bundle(root.parent / SECRET)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    "name",
    [
        "../secret",
        "..%2fsecret",
        "%2e%2e%2fsecret",
        "..%5csecret",
        "mood/../../secret",
        "mood%2f..%2f..%2fsecret",
        "%2fetc%2fpasswd",
        "/etc/passwd",
        "mood%00",
        ".mood",
        "a" * 200,
    ],
)
def test_09_no_name_leads_out_of_the_folder(server, outside, name):
    plain = name.replace("%2f", "/").replace("%2e", ".").replace("%5c", "\\").replace("%00", "\0")
    answers = [
        server.predict(plain),
        server.http.post("/v1/classify", json={"model": plain, "input": "a"}),
        server.http.post("/v1/explain", json={"model": plain, "input": "a"}),
        server.http.post("/v1/load_lora_adapter", json={"lora_name": plain}),
        server.http.post("/v1/load_lora_adapter", json={"lora_name": "mood", "lora_path": str(outside)}),
    ]
    assert {answer.status_code for answer in answers} == {400, 404}
    paths = [
        f"POST /adapters/{name}",
        f"POST /v2/repository/models/{name}/load",
        f"POST /v2/models/{name}/infer",
        f"POST /v2/models/{name}/versions/1/infer",
        f"GET /v2/models/{name}/stats",
        f"GET /v1/models/{name}",
        f"POST /v1/models/{name}:predict",
        f"GET /v1/adapters/{name}",
        f"GET /v1/adapters/{name}/report",
        f"GET /page/{name}",
    ]
    for path in paths:
        # Raw bytes, since clients normalise such paths before sending them.
        came = server.talk(
            f"{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ADMIN}\r\nConnection: close\r\n"
            'Content-Length: 15\r\n\r\n{"inputs": "a"}'.encode()
        )
        assert came.split(b" ", 2)[1] in (b"404", b"405", b"422"), path
        assert b"root:" not in came
        assert b"adapter_model" not in came
    assert SECRET not in server.statuses()


def test_09_links_are_not_followed(server, outside):
    (server.root / "link").symlink_to(outside)
    copy = server.root / "half-link"
    shutil.copytree(outside, copy)
    (copy / "tokenizer.json").unlink()
    (copy / "tokenizer.json").symlink_to(outside / "tokenizer.json")
    try:
        assert (server.load("link").status_code, server.predict("link").status_code) == (404, 404)
        answer = server.load("half-link")
        assert answer.status_code == 409
        assert "tokenizer.json is a link" in answer.json()["error"]
    finally:
        (server.root / "link").unlink()
        shutil.rmtree(copy)


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_09_pickles_and_oversized_headers_of_tensors_are_refused(server, tmp_path):
    """The bundles have valid checksums, as an attacker could write them."""
    trap = tmp_path / "exploded"
    for n, (data, words) in enumerate(
        [
            (pickle.dumps(Bomb(trap)), "adapter.safetensors has a header of "),
            ((1 << 40).to_bytes(8, "little") + b"{}", "header of 1,099,511,627,776 bytes; expected at most"),
            ((100 * MEGABYTE).to_bytes(8, "little") + b"{" * 100, "header of 100,000,000 bytes"),
        ]
    ):
        folder = write_bundle(server.root / f"strange-{n}")
        (folder / "adapter.safetensors").write_bytes(data)
        seal(folder)
        answer = server.load(folder.name)
        shutil.rmtree(folder)
        assert answer.status_code == 409
        assert words in answer.json()["error"]
    folder = write_bundle(server.root / "pickles")
    for file in ("tokenizer.pkl", "adapter_model.bin", "model.keras"):
        (folder / file).write_bytes(pickle.dumps(Bomb(trap)))
    server.load(folder.name)
    server.predict(folder.name)
    shutil.rmtree(folder)
    assert not trap.exists()


def test_09_oversized_headers_of_requests_are_refused(server):
    head = b"GET /info HTTP/1.1\r\nHost: localhost\r\n"
    for large in (b"X-Long: " + b"a" * 40_000, b"X: y\r\n" * 10_000):
        assert server.talk(head + large + b"\r\n\r\n").startswith(b"HTTP/1.1 431")
    assert server.http.get("/livez").status_code == 200


# ---- 10


def bombs(server: Served) -> list[int]:
    """Sends oversized requests of many kinds; returns the statuses, 0 where the connection was closed."""
    head = (
        "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {ADMIN}\r\n"
    ).encode()

    def told(*rest: bytes) -> int:
        came = server.talk(head + b"".join(rest))
        return int(came.split(b" ", 2)[1]) if came else 0

    post = server.http.post
    many = [["a"]] * 10_000
    chunk = b"80000\r\n" + b" " * 0x80000 + b"\r\n"
    return [
        server.predict("mood", "the people " * (3 * MEGABYTE // 11)).status_code,
        server.predict("mood", "x" * (MEGABYTE * 3 // 2)).status_code,
        server.predict("mood", many).status_code,
        server.predict(["mood", "news", "topics"], [["a"]] * 200).status_code,
        post("/v1/classify", json={"model": "mood", "input": ["a"] * 10_000}).status_code,
        post("/v1/models/mood:predict", json={"instances": ["a"] * 10_000}).status_code,
        post("/predict", content=b"[" * MEGABYTE).status_code,
        post("/predict", content=b'{"inputs": "' + b"\\u0000" * 300_000 + b'"}').status_code,
        post(
            "/predict",
            content=gzip.compress(b" " * 100 * MEGABYTE),
            headers={"content-encoding": "gzip"},
        ).status_code,
        told(b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 60),
        told(b"Content-Length: 100000000000\r\n\r\n"),
    ]


def test_10_bombs_are_refused_and_memory_stays_flat(server):
    for _ in range(3):
        statuses = bombs(server)
        assert statuses[:-2] == [413, 422, 413, 413, 413, 413, 400, 422, 415]
        assert set(statuses[-2:]) <= {413, 0}
    before, files = server.memory(), server.files()
    server.forget_peak()
    assert growth(server.memory, lambda: bombs(server)) < MEGABYTE
    until(lambda: server.files() <= files + 2)
    # The peak shows that neither the unpacked 100 MB body nor the endless one was kept in memory.
    assert server.memory("VmHWM") - before < 60 * MEGABYTE
    assert server.predict("mood").status_code == 200


def test_10_slow_clients_are_let_go_and_hold_up_nobody(server):
    files = server.files()
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ADMIN}\r\n"
    lines = []
    for start in ("", "POST /pre", head, f"{head}Content-Length: 100\r\n\r\n", f"{head}X-Slow: ") * 20:
        line = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        line.sendall(start.encode())
        lines.append(line)
    try:
        assert [server.predict("mood").status_code for _ in range(20)] == [200] * 20
        for drop in range(5):
            for line in lines:
                try:
                    line.sendall(b"a" if drop else b" ")
                except (BrokenPipeError, ConnectionResetError):
                    continue
            time.sleep(0.3)
        # All are closed, although none was silent for long.
        for line in lines:
            assert is_over(line)
    finally:
        for line in lines:
            line.close()
    until(lambda: server.files() <= files + 2)
    assert server.predict("mood").status_code == 200


def is_over(line: socket.socket) -> bool:
    """Waits until the server closes a connection; the response is 400, 408 or empty."""
    came = b""
    try:
        while chunk := line.recv(65536):
            came += chunk
    except ConnectionResetError:
        pass
    return came == b"" or came.split(b" ", 2)[1] in (b"400", b"408")


# ---- 16


def routes(server: Served) -> set[tuple[str, str]]:
    """The methods and paths of the application and of the OpenAPI document."""
    document = server.http.get("/openapi.json").raise_for_status().json()
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    contexts = list(iter_route_contexts(create(serving(Service())).routes))
    return described | {(method, one.path) for one in contexts for method in one.methods}


@pytest.mark.parametrize("key", ["", "wrong" * 8, ADMIN[:-1], ADMIN + "a", ADMIN.upper()])
def test_16_every_route_answers_401_without_a_key_but_those_that_are_listed(server, key):
    every = routes(server)
    assert len(every) > 40
    open_ones = PROBES | page.open_paths()
    headers = {"authorization": f"Bearer {key}"} if key else {}
    closed = 0
    with httpx.Client(base_url=server.url, headers=headers, trust_env=False) as http:
        for method, path in sorted(every):
            path = path.replace("{name}", "script.js" if path.startswith("/page/") else "mood")
            answer = http.request(method, path, json={} if method == "POST" else None)
            if path in open_ones and method in ("GET", "HEAD"):
                assert answer.status_code == 200, (method, path)
                continue
            closed += 1
            assert answer.status_code == 401, (method, path)
            assert answer.headers["www-authenticate"] == "Bearer"
        # The response does not show whether a path exists.
        assert http.get("/nothing").status_code == http.get("/page/nothing.js").status_code == 401
    assert closed > 20


def test_16_a_key_that_predicts_does_not_load(server):
    with httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {DATA}"}) as http:
        assert http.post("/predict", json={"inputs": "a", "adapter_id": "mood"}).status_code == 200
        for method, path in sorted(routes(server)):
            if path.endswith(("load", "_lora_adapter")):
                answer = http.request(method, path.replace("{name}", "mood"), json={"lora_name": "mood"})
                assert answer.status_code == 403, path


# ---- 17


def test_17_no_error_and_no_line_of_the_log_has_what_was_sent_or_where_things_lie(server):
    write_bundle(server.root / "broken")
    (server.root / "broken" / "adapter.safetensors").write_bytes(CANARY.encode())
    bodies = {
        "/predict": [
            {"inputs": [CANARY, CANARY], "adapter_id": "mood"},
            {"inputs": CANARY, "adapter_id": "pairs"},
            {"inputs": CANARY, "adapter_id": "none"},
            {"inputs": CANARY, "adapter_id": "broken"},
            {"inputs": {CANARY: CANARY}},
            {"inputs": CANARY, "adapter_id": {CANARY: 1}},
            {"inputs": CANARY, "adapter_id": CANARY},
            {"inputs": CANARY, "adapter_id": "mood", "truncation_direction": CANARY},
            {"inputs": CANARY, "adapter_id": "mood", "top_k": CANARY},
            {"inputs": CANARY * 10_000, "adapter_id": "mood"},
            {"inputs": CANARY * 100, "adapter_id": "mood", "truncate": False},
            {"inputs": [[CANARY]] * 1000, "adapter_id": "mood"},
        ],
        "/adapters/mood": [{"inputs": CANARY, "parameters": {"function_to_apply": CANARY}}],
        "/": [{"inputs": CANARY}],
        "/v1/classify": [{"input": [[CANARY, CANARY]], "model": "mood"}, {"input": 1, CANARY: CANARY}],
        "/v1/explain": [
            {"input": CANARY, "model": "mood", "label": CANARY},
            {"input": CANARY, "model": "stars"},
        ],
        "/v1/models/mood:predict": [{"instances": [CANARY, 3]}, {"instances": [[CANARY, CANARY]]}],
        "/v2/models/mood/infer": [
            {"inputs": [{"name": CANARY, "shape": [1], "datatype": "BYTES", "data": [CANARY]}]},
            {"inputs": [{"name": "text", "shape": [9], "datatype": "BYTES", "data": [CANARY]}]},
            {"inputs": [{"name": "text", "shape": [1], "datatype": CANARY, "data": [CANARY]}]},
        ],
        "/tokenize": [{"inputs": [CANARY] * 1000}, {"inputs": {CANARY: 1}}],
        "/v1/load_lora_adapter": [{"lora_name": "mood", "lora_path": f"/{CANARY}"}, {"lora_name": "broken"}],
        "/v2/repository/models/broken/load": [{}],
        "/v2/repository/models/mood/load": [{"parameters": {"config": CANARY}}],
        f"/{CANARY}": [{}],
        f"/adapters/{CANARY}": [{"inputs": CANARY}],
    }
    answers = [server.http.post(path, json=body) for path, own in bodies.items() for body in own]
    answers += [server.http.post(path, content=f'{{"inputs": "{CANARY}') for path in bodies]
    answers += [server.http.post("/predict", content=CANARY, headers={"content-type": "text/plain"})]
    answers += [server.http.get(f"/{CANARY}"), server.http.get(f"/page/{CANARY}")]
    shutil.rmtree(server.root / "broken")
    hidden = [CANARY, "zq-canary", str(server.root), str(Path.home()), "Traceback", ".py"]
    for answer in answers:
        assert answer.status_code >= 400, answer.request.content[:200]
        assert not [word for word in hidden if word in answer.text], answer.text
    # Each request fails for the expected reason, not with another status.
    assert {answer.status_code for answer in answers} == {400, 404, 409, 413, 415, 422, 503}
    told = server.log.read_text()
    assert "zq-canary" not in told
    assert "Traceback" not in told
    lines = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    assert {"validation", "adapter_failed", "adapter_not_found"} <= {line.get("error_type") for line in lines}


def test_17_nor_does_what_is_answered(server):
    server.predict("mood", CANARY)
    with together() as call:
        answers = [call(server.predict, "mood", text) for text in TEXTS]
    assert all(CANARY not in answer.result().text for answer in answers)
    assert "zq-canary" not in server.log.read_text()
    assert "zq-canary" not in server.http.get("/metrics").text
    assert COMMAND[0] not in server.http.get("/info").text
