"""The load generator counts the server's responses, and the tables report the counts."""

from __future__ import annotations

import asyncio
import json

import pytest
from benchmarks.serving import tables
from benchmarks.serving.load import Generator, Order, is_right, labels_of, percentile
from benchmarks.serving.plan import BY_NAME, MIXED, SCENES
from benchmarks.serving.requests import fan_out, predict
from benchmarks.serving.results import Results
from benchmarks.serving.scenes import SCENES as PLAYED

LABELS = b'[{"label":"positive","score":0.9},{"label":"negative","score":0.1}]'


async def loaded(answer, **order):
    """Runs the generator against a server that calls `answer` with each body; returns its report."""

    async def serve(reader, writer):
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                status, body = await answer(await reader.readexactly(length))
                if status is None:
                    break
                # In two parts, as large responses arrive.
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body[:5])
                await writer.drain()
                await asyncio.sleep(0)
                writer.write(body[5:])
        except (asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        whole = {"connections": 4, "seconds": 0.3, "warm_up": 0.05, **order}
        return await Generator(Order(port=port, **whole)).run()


def test_a_closed_loop_sends_as_fast_as_it_is_answered():
    under_way = most = 0

    async def answer(body):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.005)
        under_way -= 1
        return 200, LABELS

    report = asyncio.run(loaded(answer, requests=[("/predict", "{}", "positive")]))
    assert most == 4
    assert report.statuses == {"200": report.answers}
    assert report.failures == 0
    assert 0 < report.throughput <= 4 / 0.005
    assert report.throughput == pytest.approx(report.answers / 0.3, abs=4 / 0.3 + 1)
    assert 5 <= report.p50 <= report.p95 <= report.p99 <= report.slowest


def test_answers_with_other_labels_and_other_statuses_are_failures():
    async def answer(body):
        if b"busy" in body:
            return 429, b"{}"
        return 200, LABELS

    requests = [("/predict", text, "positive" if "good" in text else "negative") for text in ("good", "bad")]
    report = asyncio.run(loaded(answer, requests=[*requests, ("/predict", "busy", None)], warm_up=0))
    assert set(report.statuses) == {"200", "429"}
    assert report.checked == report.answers
    assert 0 < report.wrong < report.checked
    assert report.failures == report.wrong + report.statuses["429"]


def test_a_connection_that_is_closed_is_counted():
    async def answer(body):
        return None, b""

    report = asyncio.run(loaded(answer, requests=[("/predict", "{}", None)], connections=3, warm_up=0))
    assert report.answers == 0
    assert report.statuses == {"lost": 3}


def test_an_open_loop_keeps_its_rate_and_counts_from_when_a_request_was_due():
    stood_still = False

    async def answer(body):
        nonlocal stood_still
        if not stood_still:
            stood_still = True
            await asyncio.sleep(0.2)
        return 200, LABELS

    report = asyncio.run(
        loaded(
            answer,
            requests=[("/predict", "{}", "positive")],
            connections=1,
            rate=200,
            seconds=1.0,
            warm_up=0,
            window=0.5,
        )
    )
    assert report.failures == 0
    assert 150 <= report.answers <= 250
    # While the one connection was blocked, forty other requests were due; each waited from its due time.
    assert report.p50 < 50
    assert report.p95 > 50
    assert sum(window["answers"] for window in report.windows) == report.answers
    assert report.windows[0]["p99"] > report.windows[1]["p99"]


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 50), (0.99, 99), (0.995, 100), (1.0, 100)])
def test_percentiles(share, value):
    assert percentile(range(1, 101), share) == value
    assert percentile([7.0], share) == 7
    assert percentile([], share) == 0


def test_labels_are_read_from_every_form_of_answer():
    one = json.loads(LABELS)
    assert labels_of(one) == labels_of([one]) == "positive"
    assert labels_of({"a": one, "b": [one]}) == {"a": "positive", "b": "positive"}


@pytest.mark.parametrize(
    ("known", "right"),
    [
        ({"a": "positive"}, True),
        ({"a": "positive", "b": "positive"}, True),
        ({"a": "negative", "b": "positive"}, False),
        ({"c": "positive"}, False),
        ("positive", False),
    ],
)
def test_of_several_adapters_what_is_known_has_to_be_right(known, right):
    assert is_right({"a": json.loads(LABELS), "b": json.loads(LABELS)}, known) is right


def test_a_text_for_several_adapters_knows_what_is_right_of_each():
    right = {MIXED[0]: {"good": "positive", "bad": "negative"}, MIXED[1]: {"good": "negative"}}
    requests = fan_out(["so so", "well"], MIXED[:3], right)
    known = {json.loads(body)["inputs"]: label for _, body, label in requests}
    assert known == {
        "good": {MIXED[0]: "positive", MIXED[1]: "negative"},
        "bad": {MIXED[0]: "negative"},
        "so so": None,
        "well": None,
    }
    assert all(json.loads(body)["adapter_id"] == MIXED[:3] for _, body, _ in requests)


def test_requests_ask_all_adapters_and_know_what_is_right():
    right = {MIXED[0]: {"good": "positive", "bad": "negative"}}
    requests = predict(["good", "bad", "so so"], MIXED, right)
    bodies = [json.loads(body) for _, body, _ in requests]
    assert {body["adapter_id"] for body in bodies} == set(MIXED)
    for body, (_, _, label) in zip(bodies, requests, strict=True):
        assert label == right.get(body["adapter_id"], {}).get(body["inputs"])
    assert requests == predict(["good", "bad", "so so"], MIXED, right)


def test_every_scene_is_played_and_has_the_sides_that_are_compared():
    assert list(PLAYED) == [scene.name for scene in SCENES]
    for scene in SCENES:
        assert {scene.asked, scene.against} - {None} <= set(scene.sides)


def test_the_summary_says_which_targets_are_met():
    results = Results(None, {"processor": "x"})
    for ours, theirs in ((410, 100), (390, 100), (500, 100)):
        results.add("loras", {"keras-peft": loads(ours), "peft": loads(theirs)})
    results.add("loading", {"known": {"milliseconds": 60.0}, "new": {"milliseconds": 900.0}})
    lines = tables.summary(results).splitlines()
    assert lines[2].endswith("| at least 4 times | 4.10 (3.90 – 5.00) times | yes |")
    assert lines[3].endswith("| at most 50 ms | 60 ms | no |")
    assert tables.ratios(results.scenes["loras"], BY_NAME["loras"]) == [4.1, 3.9, 5.0]


def test_results_are_kept_and_those_of_another_machine_are_refused(tmp_path):
    from benchmarks.speed.results import OtherMachine

    machine = {"processor": "x", "date": "today", "versions": {"keras": "3"}}
    path = tmp_path / "serving.json"
    Results(path, machine).add("loras", {"keras-peft": loads(4), "peft": loads(1)})
    results = Results(path, {**machine, "date": "tomorrow"})
    results.add_tried("peft", {"--batch 8": 10.0})
    results.add("loras", {"keras-peft": loads(5), "peft": loads(1)})
    read = Results(path, None)
    assert [one["keras-peft"]["throughput"] for one in read.scenes["loras"]] == [4, 5]
    assert read.tried == {"peft": {"--batch 8": 10.0}}
    with pytest.raises(OtherMachine, match="processor: x there, y here"):
        Results(path, {**machine, "processor": "y"})


def loads(throughput):
    return {"throughput": throughput, "p50": 1.0, "p95": 2.0, "p99": 3.0, "memory_mb": 500.0}
