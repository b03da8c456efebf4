"""Responses match the OpenAPI document, for valid and for invalid requests."""

from __future__ import annotations

import zlib
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from keras_peft.serve.http import failures
from keras_peft.serve.http.app import create
from serve.bundles import seal
from serve.fake import Service, serving
from serve.http.acceptance import running
from serve.http.acceptance.running import PAIRS, TEXTS

NAMES = ["mood", "news", "topics", "stars", "seven", "pairs", "tags"]
OF_TEXTS = [name for name in NAMES if name != "pairs"]
FIELDS = ("adapter_id", "model", "lora_name")
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# All errors have the same schema; these are the statuses of a server that is neither hanging nor overloaded.
STATUSES = {200, 405} | {status for status in failures.STATUSES.values() if status < 500}

schema = schemathesis.openapi.from_dict(create(serving(Service())).openapi())


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("schema")
    root = running.write_all(folder / "bundles")
    (root / "mood" / "report.html").write_text("<p>A report.</p>")
    seal(root / "mood")
    with running.serve(folder / "server", root, "--watch-s", "0", keys=False) as one:
        yield one


def known(name: Any) -> Any:
    """Replaces most random names by existing adapters, so that requests pass the name check."""
    if isinstance(name, list):
        return [known(one) for one in name]
    if not isinstance(name, str):
        return name
    return [*NAMES, name][zlib.crc32(name.encode("utf-8", "replace")) % (len(NAMES) + 1)]


@schema.hook
def map_path_parameters(context: Any, parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    return {key: known(value) for key, value in parameters.items()} if parameters else parameters


@schema.hook
def map_body(context: Any, body: Any) -> Any:
    if not isinstance(body, dict):
        return body
    return {key: known(value) if key in FIELDS else value for key, value in body.items()}


@schema.parametrize()
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
def test_whatever_is_sent_is_answered_as_the_document_says(case, server):
    response = case.call(base_url=server.url)
    if "unload" in case.path and response.status_code == 200:
        for name in NAMES:
            if server.state(name)["state"] != "READY":
                server.load(name)
    case.validate_response(response, checks=[*CHECKS, negative_data_rejection])
    assert response.status_code in STATUSES


def tensors(texts: list[Any]) -> dict[str, Any]:
    """A request body of the Open Inference Protocol."""
    columns = [texts] if isinstance(texts[0], str) else zip(*texts, strict=True)
    return {
        "id": "one",
        "inputs": [
            {"name": name, "shape": [len(texts)], "datatype": "BYTES", "data": list(column)}
            for name, column in zip(("text", "text_pair"), columns, strict=False)
        ],
    }


@pytest.mark.parametrize(
    ("path", "names", "body"),
    [
        ("/predict", OF_TEXTS, {"inputs": TEXTS[0]}),
        ("/predict", OF_TEXTS, {"inputs": [[text] for text in TEXTS], "raw_scores": True, "top_k": 1}),
        ("/predict", ["pairs"], {"inputs": PAIRS}),
        ("/adapters/{name}", OF_TEXTS, {"inputs": TEXTS}),
        ("/adapters/{name}", OF_TEXTS, {"inputs": TEXTS[0], "parameters": {"function_to_apply": "none"}}),
        ("/adapters/{name}", ["pairs"], {"inputs": {"text": TEXTS[0], "text_pair": TEXTS[1]}}),
        ("/v1/classify", OF_TEXTS, {"input": TEXTS}),
        ("/v1/classify", ["pairs"], {"input": PAIRS, "use_activation": False}),
        ("/v1/models/{name}:predict", OF_TEXTS, {"instances": TEXTS}),
        ("/v1/models/{name}:predict", ["pairs"], {"instances": PAIRS}),
        (
            "/v1/models/{name}:classify",
            ["mood", "news", "topics", "seven"],
            {"examples": [{"text": text} for text in TEXTS]},
        ),
        (
            "/v1/models/{name}:classify",
            ["pairs"],
            {"examples": [{"text": one, "text_pair": other} for one, other in PAIRS]},
        ),
        ("/v1/models/{name}:regress", ["stars"], {"examples": [{"text": text} for text in TEXTS]}),
        ("/v2/models/{name}/infer", OF_TEXTS, tensors(TEXTS)),
        ("/v2/models/{name}/infer", ["pairs"], tensors(PAIRS)),
        ("/v1/explain", ["mood", "news", "topics", "seven"], {"input": TEXTS[0]}),
        ("/v1/explain", ["pairs"], {"input": PAIRS[0], "label": "yes"}),
        ("/tokenize", NAMES, {"inputs": TEXTS}),
    ],
)
def test_what_is_asked_for_is_answered_as_the_document_says(server, path, names, body):
    field = "adapter_id" if path in ("/predict", "/tokenize") else "model"
    for name in names:
        named = {} if "{name}" in path else {field: name}
        case = schema[path]["POST"].Case(
            path_parameters={"name": name} if "{name}" in path else {},
            body=body | named,
            media_type="application/json",
        )
        response = case.call(base_url=server.url)
        assert response.status_code == 200, (name, response.text)
        case.validate_response(response, checks=CHECKS)


def test_several_adapters_are_answered_as_the_document_says(server):
    for path, field, body in (
        ("/predict", "adapter_id", {"inputs": TEXTS[0]}),
        ("/predict", "adapter_id", {"inputs": [[text] for text in TEXTS]}),
        ("/v1/classify", "model", {"input": TEXTS}),
    ):
        case = schema[path]["POST"].Case(body=body | {field: OF_TEXTS}, media_type="application/json")
        response = case.call(base_url=server.url)
        assert list(response.json()) == OF_TEXTS
        case.validate_response(response, checks=CHECKS)
