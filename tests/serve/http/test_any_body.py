"""Whatever body is sent to a route, the answer is one that the OpenAPI document describes, and never 500.

The bodies are valid ones with changes, any JSON with known fields, and any bytes.
"""

from __future__ import annotations

import json
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.mutations import raw, structure
from keras_peft.serve.http import failures
from sampling import thorough
from serve.fake import SECRET, TASKS, Service, client
from serve.http.acceptance import running

TENSOR = {"name": "text", "shape": [2], "datatype": "BYTES", "data": ["a text", "another"]}
# Valid bodies by the ends of paths; the first match counts.
BODIES = {
    ":predict": [{"instances": ["a text"]}, {"instances": [["a", "b"]], "signature_name": "serving_default"}],
    ":classify": [{"examples": [{"text": "a text"}], "context": {"text": "a"}}],
    ":regress": [{"examples": [{"text": "a text"}]}],
    "/infer": [
        {"id": "one", "inputs": [TENSOR], "outputs": [{"name": "label", "parameters": {"classification": 2}}]}
    ],
    "/v1/classify": [
        {"model": "single", "input": ["a text"], "use_activation": False, "truncate_prompt_tokens": 5}
    ],
    "/v1/explain": [{"model": "single", "input": "a text", "label": "alpha"}],
    "/predict": [
        {"adapter_id": "single", "inputs": [["a"], ["b"]], "raw_scores": True, "top_k": 1, "truncate": True}
    ],
    "/tokenize": [{"adapter_id": "single", "inputs": ["a text"], "add_special_tokens": True}],
    "/index": [{"ready": True}],
    "/load": [{"parameters": {"a": 1}}],
    "/unload": [{"parameters": {"unload_dependents": True}}],
    "lora_adapter": [{"lora_name": "single", "lora_path": "/nowhere", "load_inplace": True}],
    "": [
        {
            "inputs": ["a text"],
            "parameters": {"function_to_apply": "none", "top_k": 2},
            "options": {},
            "model": "a",
        }
    ],
}
FIELDS = sorted(
    {key for bodies in BODIES.values() for body in bodies for key in body} | {"text", "parameters"}
)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([*TASKS, "text"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS) | st.text(), inner, max_size=6)
    ),
    max_leaves=12,
)
TYPES = ["application/json", "application/json", "application/json; charset=utf-16", "text/plain", "", "\xff"]


@st.composite
def body_for(draw, path):
    """A body for a route: its content, and its content type."""
    own = next(bodies for end, bodies in BODIES.items() if path.endswith(end))
    generator = Random(draw(st.integers(0, 2**32)))
    valid = json.dumps(draw(st.sampled_from(own))).encode()
    content = draw(
        st.one_of(
            st.just(None).map(lambda _: structure.values(generator, valid)),
            st.just(None).map(lambda _: structure.repeated_key(generator, valid)),
            st.just(None).map(lambda _: generator.choice(raw.MUTATIONS)(generator, valid)),
            st.dictionaries(st.sampled_from(FIELDS), ANY_JSON, max_size=6).map(structure.encode),
            ANY_JSON.map(structure.encode),
            st.binary(max_size=60),
        )
    )
    return content, draw(st.sampled_from(TYPES))


SERVICE = Service()
DOCUMENT = client(SERVICE).app.openapi()
ROUTES = [path for path, operations in DOCUMENT["paths"].items() if "post" in operations]
# The document describes all of them together.
REFUSALS = {status for status in failures.STATUSES.values() if status < 500 or status == 503}
QUICK = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.function_scoped_fixture,
    ],
)
LONG = settings(QUICK, max_examples=200)


@pytest.fixture(scope="module")
def http():
    with client(SERVICE) as one:
        yield one


def check(http, path, data) -> None:
    """Sends a drawn body, and checks the answer."""
    content, kind = data.draw(body_for(path))
    name = data.draw(st.sampled_from([*TASKS, "nothing", "%00", "..", "a b"]))
    url = path.replace("{name}", name).replace("{version}", data.draw(st.sampled_from(["1", "2", "x", "-1"])))
    answer = http.post(url, content=content, headers={"content-type": kind.encode("latin-1")})
    documented = DOCUMENT["paths"][path]["post"]["responses"]
    assert str(answer.status_code) in documented or answer.status_code in REFUSALS, (
        content[:500],
        answer.text,
    )
    assert str(SECRET) not in answer.text
    if answer.status_code >= 400:
        assert "error" in answer.json()


@pytest.mark.parametrize("path", ROUTES)
@given(data=st.data())
@QUICK
def test_any_body_is_answered_as_the_document_says(http, path, data):
    SERVICE.__post_init__()  # Another body may have unloaded an adapter.
    check(http, path, data)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("any-body")
    root = running.write_all(folder / "bundles")
    with running.serve(folder / "server", root, "--watch-s", "0", keys=False) as one:
        yield one


@pytest.mark.parametrize("path", thorough(*(path for path in ROUTES if "load" not in path)))
@given(data=st.data())
@LONG
def test_any_body_is_answered_by_a_server_with_models(server, path, data):
    check(server.http, path, data)
