from __future__ import annotations

import hashlib

import pytest
from starlette.testclient import TestClient

from keras_peft.serve.http.app import create
from keras_peft.serve.http.rate_limits import duration
from keras_peft.serve.keys import Key, Keys
from serve.fake import Service, client, serving

BODY = {"inputs": "a", "adapter_id": "single"}
SECRET = "d" * 24
KEYS = Keys([Key("billing", hashlib.sha256(SECRET.encode()).digest(), requests_per_minute=2)])
AUTHORIZED = {"authorization": f"Bearer {SECRET}"}


def test_a_key_beyond_its_limit_is_refused_until_it_may_ask_again():
    state = serving(Service(), keys=KEYS)
    now = [0.0]
    state.clock = lambda: now[0]
    with TestClient(create(state), base_url="http://localhost", headers=AUTHORIZED) as http:
        first = http.post("/predict", json=BODY)
        http.post("/predict", json=BODY)
        refused = http.post("/predict", json=BODY)
        now[0] = 29.0
        assert http.post("/v1/classify", content=b"x" * 100).status_code == 429
        now[0] = 30.0
        assert http.post("/predict", json=BODY).status_code == 200
        metrics = http.get("/metrics").text
    assert {name: first.headers[name] for name in first.headers if name.startswith("x-ratelimit")} == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "1",
        "x-ratelimit-reset-requests": "30s",
    }
    assert (refused.status_code, refused.json()["error_type"]) == (429, "rate_limit")
    assert (refused.headers["retry-after"], refused.headers["x-ratelimit-remaining-requests"]) == ("30", "0")
    assert refused.headers["x-ratelimit-reset-requests"] == "1m0s"
    assert 'keras_peft_rate_limited_requests_total{key="billing"} 2.0' in metrics
    assert 'keras_peft_request_failures_total{reason="rate_limit"} 2.0' in metrics


def test_lists_probes_and_requests_without_a_key_do_not_count():
    with client(keys=KEYS, key=SECRET) as http:
        for _ in range(5):
            assert http.get("/v1/models").status_code == 200
            assert http.get("/readyz").status_code == 200
            assert http.post("/predict", json=BODY, headers={"authorization": ""}).status_code == 401
        assert http.post("/predict", json=BODY).headers["x-ratelimit-remaining-requests"] == "1"


def test_without_keys_the_default_is_for_all_requests_together():
    with client(requests_per_minute=1) as http:
        assert [http.post("/predict", json=BODY).status_code for _ in range(2)] == [200, 429]
    with client() as http:
        answer = http.post("/predict", json=BODY)
    assert not [name for name in answer.headers if name.startswith("x-ratelimit")]


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0, "0ms"), (0.25, "250ms"), (1, "1s"), (12.4, "12s"), (59.6, "1m0s"), (90, "1m30s")],
)
def test_durations_are_written_as_openai_writes_them(seconds, written):
    assert duration(seconds) == written
