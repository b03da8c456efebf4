from __future__ import annotations

import hashlib
import re

from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from keras_peft.serve.http.app import create
from keras_peft.serve.keys import Key, Keys
from keras_peft.serve.metrics import MOST_ADAPTERS, Metrics, exposition
from serve.fake import Service, client, serving


def series(metrics: Metrics) -> dict[str, list[dict[str, str]]]:
    """The labels of all series, by name."""
    found: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(exposition(metrics.families(), "")[0].decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"keras_peft_{name}", labels)


def test_what_happens_is_counted():
    metrics = Metrics(base="tiny", base_sha256="ab")
    metrics.queue_changed(waiting=3, running=2)
    metrics.batch_started(rows=4, tokens=30, padded=40, distinct_adapters=2, waited=[0.1, 0.2, 0.3, 0.4])
    metrics.batch_ended(rows=4, seconds=0.5)
    metrics.batch_ended(rows=4, seconds=0.5, failed=True)
    metrics.tokenized(texts=2, tokens=30, cut=1, seconds=0.01)
    metrics.adapters_changed({"READY": 2, "FAILED": 1})
    metrics.adapter_failed("c", reason="It is so.")
    metrics.request_ended(route="/predict", status=200, seconds=0.2)
    metrics.request_failed("timeout")
    assert (value(metrics, "queue_size"), value(metrics, "in_flight")) == (3, 2)
    assert (value(metrics, "batch_size_sum"), value(metrics, "batch_tokens_sum")) == (4, 40)
    assert value(metrics, "batch_padding_ratio_sum") == 0.25
    assert value(metrics, "batch_distinct_adapters_sum") == 2
    assert value(metrics, "queue_duration_seconds_count") == 4
    assert (value(metrics, "inference_duration_seconds_count"), value(metrics, "failed_batches_total")) == (
        2,
        1,
    )
    assert (value(metrics, "request_input_tokens_sum"), value(metrics, "cut_texts_total")) == (30, 1)
    assert value(metrics, "adapter_slots", state="ready") == 2
    assert value(metrics, "adapter_loads_total", result="failed") == 1
    assert value(metrics, "requests_total", route="/predict", status="200") == 1
    assert value(metrics, "request_failures_total", reason="timeout") == 1
    assert series(metrics)["keras_peft_build_info"][0]["base"] == "tiny"


def test_states_that_are_gone_are_not_shown():
    metrics = Metrics()
    metrics.adapters_changed({"LOADING": 1})
    metrics.adapters_changed({"READY": 1})
    assert value(metrics, "adapter_slots", state="loading") is None


def test_the_series_of_an_adapter_go_with_it():
    metrics = Metrics()
    before = series(metrics)
    for generation in range(1, 50):
        metrics.adapter_loaded("a", generation=generation, pinned=False, seconds=0.1)
        metrics.adapter_answered("a", texts=2)
        metrics.adapter_answered("a", texts=1, kind="timeout")
        assert len(series(metrics)["keras_peft_adapter_loaded"]) == 1
        if generation % 2:
            metrics.adapter_unloaded("a", reason="asked")
            # A request that ends after the unload is not counted for the adapter.
            metrics.adapter_answered("a", texts=1)
    assert value(metrics, "adapter_requests_total", adapter="a", status="ok") is None
    after = series(metrics)
    assert [one["adapter"] for one in after["keras_peft_adapter_requests_total"]] == ["(others)"]
    assert after.keys() - before.keys() <= {
        "keras_peft_adapter_requests_total",
        "keras_peft_adapter_requests_created",
        "keras_peft_adapter_loads_total",
        "keras_peft_adapter_loads_created",
        "keras_peft_adapter_evictions_total",
        "keras_peft_adapter_evictions_created",
    }


def test_names_that_clients_make_up_make_no_series():
    metrics = Metrics()
    for number in range(100):
        metrics.adapter_answered(f"made-up-{number}", texts=1, kind="adapter_not_found")
    assert len(series(metrics)["keras_peft_adapter_requests_total"]) == 1


def test_very_many_adapters_are_counted_together():
    metrics = Metrics()
    for number in range(MOST_ADAPTERS + 50):
        metrics.adapter_loaded(f"a{number}", generation=1, pinned=False, seconds=0.1)
        metrics.adapter_answered(f"a{number}", texts=1)
    assert len(series(metrics)["keras_peft_adapter_loaded"]) == MOST_ADAPTERS
    assert value(metrics, "adapter_requests_total", adapter="(others)", status="ok") == 50
    # Unloading an adapter without its own series raises no error.
    metrics.adapter_unloaded(f"a{MOST_ADAPTERS + 1}", reason="evicted")


def test_requests_are_counted_by_their_routes_and_not_by_what_was_asked():
    with client() as http:
        for number in range(5):
            http.post(f"/adapters/made-up-{number}", json={"inputs": "a"})
            http.get(f"/made-up-{number}")
        http.post("/predict", json={"inputs": "a", "adapter_id": "single"})
        told = http.get("/metrics")
    text = told.text
    assert 'requests_total{route="/adapters/{name}",status="404"} 5.0' in text
    assert 'requests_total{route="unknown",status="404"} 5.0' in text
    assert 'requests_total{route="/predict",status="200"} 1.0' in text
    assert 'request_failures_total{reason="adapter_not_found"} 5.0' in text
    assert "made-up" not in text
    assert told.headers["content-type"].startswith("text/plain")


def test_open_metrics_where_they_are_asked_for():
    with client() as http:
        told = http.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert told.headers["content-type"].startswith("application/openmetrics-text")
    assert told.text.endswith("# EOF\n")


def test_a_key_sees_the_adapters_that_it_may_use_and_its_own_name():
    secrets = {name: name * 24 for name in ("n", "w", "a")}
    digests = {name: hashlib.sha256(secret.encode()).digest() for name, secret in secrets.items()}
    keys = Keys(
        [
            Key("n", digests["n"], adapters=frozenset({"mood"})),
            Key("w", digests["w"]),
            Key("a", digests["a"], admin=True),
        ]
    )
    state = serving(Service(), keys=keys)
    for name in ("mood", "news"):
        state.metrics.adapter_loaded(name, generation=1, pinned=False, seconds=0.1)
        state.metrics.adapter_answered(name, texts=1)
    for name in (*secrets, "gone"):
        state.metrics.adapter_answered(name, texts=1)
        state.metrics.rate_limited(name)
    shown = {}
    for name, secret in secrets.items():
        with TestClient(create(state), base_url="http://localhost") as http:
            text = http.get("/metrics", headers={"authorization": f"Bearer {secret}"}).text
        shown[name] = {
            label: {
                sample.labels[label]
                for family in text_string_to_metric_families(text)
                for sample in family.samples
                if label in sample.labels
            }
            for label in ("adapter", "key")
        }
        assert "keras_peft_build_info" in text
    every = {"mood", "news", "(others)"}
    assert shown == {
        "n": {"adapter": {"mood", "(others)"}, "key": {"n"}},
        "w": {"adapter": every, "key": {"w"}},
        "a": {"adapter": every, "key": {"n", "w", "a", "gone"}},
    }
    # Everything else is the same for all.
    whole = exposition(state.metrics.families(), "")[0].decode()
    with TestClient(create(state), base_url="http://localhost") as http:
        admin = http.get("/metrics", headers={"authorization": f"Bearer {secrets['a']}"}).text
    names = [re.findall(r"^[a-z_]+(?=[{ ])", text, re.M) for text in (whole, admin)]
    assert set(names[0]) - set(names[1]) == set()
