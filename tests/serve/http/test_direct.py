"""Direct routing gives the same responses as the framework's own routing."""

from __future__ import annotations

import pytest
from opentelemetry import trace

from keras_peft.serve.http import direct
from keras_peft.serve.http.app import create
from keras_peft.serve.http.direct import DirectRoutes
from serve.fake import Service, client, serving

PATHS = [
    path.replace("{name}", name)
    for path, methods in create(serving(Service())).openapi()["paths"].items()
    for name in (("single", "a%20b", "none") if "{name}" in path else ("",))
    if "post" in methods
]
ODD = [
    "/none",
    "/predict/",
    "/predict%0A",
    "/adapters/a%2Fb",
    "/adapters/single%0A",
    "//predict",
    "/livez",
    "/docs",
]
BODY = {
    "inputs": "a",
    "input": "a",
    "model": "single",
    "adapter_id": "single",
    "instances": ["a"],
    "lora_name": "single",
}


def said(path, body):
    with client() as http:
        answer = http.post(path, json=body, headers={"x-request-id": "one"})
    told = {name for name in answer.headers if name.startswith(("x-", "content-type", "retry"))}
    return answer.status_code, answer.text.partition('"created"')[0], told


@pytest.mark.parametrize("path", [*PATHS, *ODD])
@pytest.mark.parametrize("body", [{}, BODY])
def test_it_answers_as_the_framework_does(path, body, monkeypatch):
    short = said(path, body)
    with monkeypatch.context() as patched:
        patched.setattr(DirectRoutes, "_find", lambda self, path: (None, {}))
        assert short == said(path, body)


def test_it_finds_all_routes_that_read_a_body():
    assert len({path for path in PATHS if "/none" not in path and "%" not in path}) >= 10
    app = create(serving(Service()))
    (options,) = [one.kwargs for one in app.user_middleware if one.cls is DirectRoutes]
    way = DirectRoutes(app.router, **options)
    for path in PATHS:
        route, names = way._find(path)
        assert route.path.replace("{name}", names.get("name", "")) == path


def test_spans_that_are_recorded_are_the_frameworks(monkeypatch):
    class Recorded(trace.NonRecordingSpan):
        def is_recording(self):
            return True

    found = []
    monkeypatch.setattr(DirectRoutes, "_find", lambda self, path: found.append(path) or (None, {}))
    with client() as http:
        http.post("/predict", json=BODY)
        span = Recorded(trace.INVALID_SPAN_CONTEXT)
        monkeypatch.setattr(direct.trace, "get_current_span", lambda: span)
        assert http.post("/predict", json=BODY).status_code == 200
    assert found == ["/predict"]
