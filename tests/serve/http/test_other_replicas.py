"""A server with others at the same address: shared metrics, and adapters that only the folder can remove."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from keras_peft.serve.http.app import create
from keras_peft.serve.metrics import Metrics, merged
from serve.fake import Service, serving


class Others:
    """One other server.

    Attributes:
        metrics: Its metrics.
        looks: How often it was asked to look at its folder.
    """

    def __init__(self):
        self.metrics, self.looks = Metrics(), 0

    async def families(self, own):
        return merged({"here": own, "there": self.metrics.families()})

    async def look(self):
        self.looks += 1


def connected():
    state = serving(Service())
    state.replicas = Others()
    return state, TestClient(create(state), base_url="http://localhost")


def test_the_metrics_of_all_are_shown_apart():
    state, http = connected()
    for metrics, count in ((state.metrics, 2), (state.replicas.metrics, 3)):
        metrics.queue_changed(waiting=count, running=0)
        for _ in range(count):
            metrics.batch_ended(rows=1, seconds=0.2)
    with http:
        for accept in ("text/plain", "application/openmetrics-text; version=1.0.0"):
            text = http.get("/metrics", headers={"accept": accept}).text
            # Each family has one description.
            assert text.count("# TYPE keras_peft_queue_size gauge") == 1
            found = {
                (sample.name, sample.labels["replica"], sample.labels.get("le")): sample.value
                for family in text_string_to_metric_families(text.removesuffix("# EOF\n"))
                for sample in family.samples
            }
            assert [found["keras_peft_queue_size", name, None] for name in ("here", "there")] == [2, 3]
            counted = "keras_peft_inference_duration_seconds_bucket"
            assert [found[counted, name, "0.25"] for name in ("here", "there")] == [2, 3]
    # The metrics of each server stay without the label.
    assert state.metrics.registry.get_sample_value("keras_peft_queue_size") == 2


def test_all_look_at_the_folder_when_one_loads():
    state, http = connected()
    with http:
        assert http.post("/v2/repository/models/single/load").json()["version"] == "2"
        assert http.post("/v1/load_lora_adapter", json={"lora_name": "single"}).status_code == 200
        assert http.post("/v2/repository/models/nothing/load").status_code == 404
    assert state.replicas.looks == 2


def test_only_the_folder_can_remove_an_adapter():
    state, http = connected()
    with http:
        refused = http.post("/v2/repository/models/single/unload")
        assert (refused.status_code, refused.json()["error_type"]) == (409, "adapter_failed")
        assert refused.json()["error"].endswith("remove the bundle from the folder to unload it.")
        refused = http.post("/v1/unload_lora_adapter", json={"lora_name": "single"})
        assert refused.status_code == 409
    assert state.service.adapters.there["single"].state == "READY"
