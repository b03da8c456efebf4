from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from keras_peft.extras import EXTRAS
from keras_peft.serve import failures
from keras_peft.serve.http import logs
from keras_peft.serve.http.app import create
from keras_peft.serve.http.failures import STATUSES
from keras_peft.serve.http.responses import as_json
from serve.fake import Service, client, serving

# No response and no log line may contain it.
CANARY = "zq-canary-7391"
TRACE = "0af7651916cd43dd8448eb211c80319c"
DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture
def requests(caplog):
    """The log records of requests."""
    caplog.set_level(logging.INFO, "keras_peft.serve.requests")
    return lambda: [record.fields for record in caplog.records if getattr(record, "event", "") == "request"]


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (failures.Malformed, 400),
        (failures.AdapterFailed, 409),
        (failures.AdapterUnavailable, 503),
        (failures.Invalid, 422),
        (failures.Overloaded, 429),
        (failures.BackendFailed, 500),
        (failures.NotReady, 503),
        (failures.TimedOut, 504),
    ],
)
def test_failures_have_their_status_and_kind(failure, status):
    with client(Service(fails=failure("It is so.", retry_after=1.2))) as http:
        answer = http.post("/predict", json={"inputs": "a", "adapter_id": "single"})
    assert answer.status_code == status
    assert answer.json() == {"error": "It is so.", "error_type": failure.kind}
    assert answer.headers["retry-after"] == "2"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict", {"inputs": CANARY, "adapter_id": "single"}),
        ("/predict", {"inputs": [CANARY, CANARY], "adapter_id": "single"}),
        ("/predict", {"inputs": {CANARY: CANARY}}),
        ("/predict", {"inputs": "a", "adapter_id": {CANARY: 1}}),
        ("/predict", {"inputs": "a", "adapter_id": "single", "truncation_direction": CANARY}),
        ("/adapters/single", {"inputs": CANARY, "parameters": {"function_to_apply": CANARY}}),
        ("/v1/classify", {"input": CANARY, "model": "single"}),
        ("/v1/models/single:predict", {"instances": [CANARY, 3]}),
        (
            "/v2/models/single/infer",
            {"inputs": [{"name": CANARY, "shape": [1], "datatype": CANARY, "data": [CANARY]}]},
        ),
        ("/v1/load_lora_adapter", {"lora_name": "single", "lora_path": f"/{CANARY}"}),
        (f"/{CANARY}", {}),
    ],
)
def test_no_error_and_no_log_holds_what_was_sent(path, body, caplog, requests):
    broken = ValueError(f"cannot read {CANARY} at /secret/place")
    with caplog.at_level(logging.DEBUG), client(Service(fails=broken)) as http:
        answer = http.post(path, json=body)
        malformed = http.post(path, content=f'{{"inputs": "{CANARY}'.encode())
    assert answer.status_code >= 400
    assert malformed.status_code >= 400
    told = [answer.text, malformed.text, *map(str, requests())]
    told += [
        logs.JsonFormatter().format(record)
        for record in caplog.records
        if record.name.startswith("keras_peft")
    ]
    assert len(told) >= 4
    for text in told:
        assert CANARY not in text
        assert "/secret" not in text


def test_an_unexpected_error_is_answered_without_details_and_logged_with_its_place(caplog):
    with client(Service(fails=ZeroDivisionError("inside"))) as http:
        answer = http.post(
            "/predict", json={"inputs": "a", "adapter_id": "single"}, headers={"x-request-id": "order-17"}
        )
    assert answer.status_code == 500
    assert answer.json()["error_type"] == "backend"
    assert "order-17" in answer.json()["error"]
    assert "inside" not in answer.text
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage().startswith("order-17: ZeroDivisionError at fake.py:")


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [("GET", "/nothing", 404, "not_found"), ("GET", "/predict", 405, "method_not_allowed")],
)
def test_the_frameworks_own_refusals_have_the_same_form(method, path, status, kind):
    with client() as http:
        answer = http.request(method, path)
    assert (answer.status_code, answer.json()["error_type"]) == (status, kind)


def test_the_docs_list_what_can_go_wrong():
    lines = (DOCS / "guides" / "serving.md").read_text(encoding="utf-8").splitlines()
    start = lines.index("| Status | `error_type` | Cause |") + 2
    listed = set()
    for line in lines[start : lines.index("", start)]:
        statuses, kinds = (cell.replace("`", "").replace(" ", "").split(",") for cell in line.split("|")[1:3])
        kinds = kinds * len(statuses) if len(kinds) == 1 else kinds
        listed |= set(zip(map(int, statuses), kinds, strict=True))
    known = {(status, one.kind) for one, status in STATUSES.items()}
    assert set(failures.Failure.__subclasses__()) == set(STATUSES)
    # The parser refuses headers that are too large.
    assert listed == known | {(431, "validation")}


def test_numbers_that_are_not_finite_are_null():
    content = {"metrics": {"loss": float("nan")}, "probs": [float("inf"), 0.5]}
    assert json.loads(as_json(content).body) == {"metrics": {"loss": None}, "probs": [None, 0.5]}


def test_a_line_for_each_request(requests):
    with client() as http:
        http.post("/predict", json={"inputs": "a", "adapter_id": ["single", "number"]})
        http.post("/predict", json={"inputs": "a", "adapter_id": "nothing"})
        http.get("/livez")
    right, wrong = requests()
    assert (right["route"], right["status"], right["adapters"]) == ("/predict", 200, ["single", "number"])
    assert (wrong["status"], wrong["error_type"], "adapters" in wrong) == (404, "adapter_not_found", False)
    assert right["seconds"] > 0


def test_lines_are_json():
    record = logging.LogRecord("keras_peft.serve", logging.WARNING, "x.py", 1, "It is %s.", ("so",), None)
    line = json.loads(logs.JsonFormatter().format(record))
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "warning",
        "event": "message",
        "logger": "keras_peft.serve",
        "message": "It is so.",
    }


@pytest.mark.parametrize(
    ("given", "is_kept"), [("order-17", True), ("a b", False), ("x" * 200, False), ('"{', False)]
)
def test_the_id_of_a_request_is_kept_if_it_can_stand_in_a_log(given, is_kept):
    with client() as http:
        told = http.get("/info", headers={"x-request-id": given}).headers["x-request-id"]
        other = http.get("/info").headers["x-request-id"]
    assert (told == given) is is_kept
    assert told != other


def test_the_trace_is_passed_on_and_logged(requests):
    from opentelemetry import trace

    seen = []
    service = Service()
    predict = service.predict

    async def looking(*args, **options):
        seen.append(trace.format_trace_id(trace.get_current_span().get_span_context().trace_id))
        return await predict(*args, **options)

    service.predict = looking
    with client(service) as http:
        body = {"inputs": "a", "adapter_id": "single"}
        http.post("/predict", json=body, headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"})
        http.post("/predict", json=body, headers={"traceparent": "nonsense"})
    assert seen == [TRACE, "0" * 32]
    first, second = requests()
    assert first["trace_id"] == TRACE
    assert "trace_id" not in second


def test_probes_tell_life_from_readiness():
    service = Service()
    with client(service) as http:
        for path in ("/livez", "/readyz", "/health", "/ping", "/v2/health/live", "/v2/health/ready"):
            assert http.get(path).status_code == 200
            assert http.head(path).status_code == 200
        # A long queue affects neither liveness nor readiness.
        service.batcher.waiting = 10_000
        assert http.get("/livez").status_code == http.get("/readyz").status_code == 200
        service.adapters.is_ready = False
        assert (http.get("/livez").status_code, http.get("/readyz").status_code) == (200, 503)
        service.batcher.heartbeat_age = 31.0
        assert http.get("/livez").status_code == 503
        assert http.get("/livez").json()["error_type"] == "unhealthy"


def test_a_server_that_ends_is_not_ready_and_answers_on():
    state = serving(Service())
    from starlette.testclient import TestClient

    with TestClient(create(state), base_url="http://localhost") as http:
        state.draining = True
        assert http.get("/readyz").status_code == 503
        assert http.get("/livez").status_code == 200
        answer = http.post("/predict", json={"inputs": "a", "adapter_id": "single"})
    assert answer.status_code == 200


def test_every_route_stands_in_the_document_with_what_it_reads_and_answers():
    app = create(serving(Service()))
    with client() as http:
        document = http.get("/openapi.json").json()
    assert document == app.openapi()
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert operation["description"], path
            assert "default" in operation["responses"], path
    predict = document["paths"]["/predict"]["post"]
    body = predict["requestBody"]["content"]["application/json"]["schema"]
    assert body["required"] == ["inputs"]
    assert "$defs" not in json.dumps(document)
    assert predict["responses"]["200"]["content"]["application/json"]["schema"]["anyOf"]


def test_the_page_of_the_document_brings_nothing_from_elsewhere():
    with client() as http:
        page = http.get("/docs")
    assert "/v1/classify" in page.text
    assert "<script" not in page.text
    assert "http" not in page.text.replace('href="openapi.json"', "").replace(
        "InferenceClient(model=URL)", ""
    )


@pytest.mark.parametrize(
    ("missing", "arguments", "code", "told"),
    [
        (
            ["fastapi"],
            ["."],
            2,
            "keras-peft: Serving needs fastapi, which is not installed: "
            "pip install '.[serve]' in a checkout, or pip install 'keras-peft[serve]' elsewhere\n",
        ),
        ([*EXTRAS["serve"]], ["--help"], 0, ""),
    ],
)
def test_without_the_extra_the_error_says_how_to_install_it_and_the_help_is_shown(
    missing, arguments, code, told
):
    command = (
        f"import sys; sys.modules.update(dict.fromkeys({missing})); from keras_peft.cli import main; main()"
    )
    ran = subprocess.run([sys.executable, "-c", command, "serve", *arguments], capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (code, told)
    assert ("--max-queue" in ran.stdout) is (code == 0)
