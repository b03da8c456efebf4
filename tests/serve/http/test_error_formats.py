"""Every error has the format of the protocol that its path belongs to."""

from __future__ import annotations

import hashlib

import httpx2 as httpx
import openai
import pytest

from keras_peft.serve import failures
from keras_peft.serve.http.app import create
from keras_peft.serve.http.error_formats import format_of
from keras_peft.serve.http.protocol import MAX_HEADER_BYTES
from keras_peft.serve.keys import Key, Keys
from serve.fake import Service, client, failing, running, serving
from serve.http.test_limits import talk

SECRET = "k" * 24
OPENAI_PATHS = [
    "/v1/classify",
    "/v1/models",
    "/v1/models/single",
    "/v1/load_lora_adapter",
    "/v1/nothing",
    "/v1",
]
FLAT_PATHS = [
    "/predict",
    "/adapters/single",
    "/nothing",
    "/v1/adapters/single",
    "/v1/explain",
    "/v1/models/single:predict",
    "/v1/models/single/versions/1",
    "/v1/models/single/versions/1:predict",
    "/v1/models/single/metadata",
    "/v2/models/single/infer",
    "/v2/nothing",
]


@pytest.fixture(scope="module")
def keys():
    return Keys([Key("data", hashlib.sha256(SECRET.encode()).digest())])


@pytest.mark.parametrize("path", [*OPENAI_PATHS, *FLAT_PATHS])
def test_errors_before_a_route_have_the_format_of_its_path(path, keys):
    with client(keys=keys) as http:
        answers = [http.request(method, path) for method in ("GET", "POST", "DELETE")]
    with client(max_body_bytes=1024) as http:
        answers.append(http.post(path, content=b"x" * 2000))
        answers.append(http.post(path, content=b"{}", headers={"content-encoding": "gzip"}))
        answers.append(http.delete(path))
        answers.append(http.get(path, headers={"origin": "https://elsewhere.example"}))
    assert [answer.status_code for answer in answers[:5]] == [401, 401, 401, 413, 415]
    assert answers[5].status_code in (404, 405)
    assert answers[6].status_code == 403
    for answer in answers:
        error = answer.json()["error"]
        if path in FLAT_PATHS:
            assert set(answer.json()) == {"error", "error_type"}
            assert isinstance(error, str)
        else:
            assert set(answer.json()) == {"error"}
            assert set(error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(("path", "form"), [("/v1/classify", dict), ("/predict", str)])
def test_headers_that_are_too_large_have_the_format_of_the_path(path, form):
    with running(Service()) as server:
        head = f"GET {path}?a=b HTTP/1.1\r\nHost: localhost\r\n".encode()
        came = talk(server.port, head + b"X-Long: " + b"a" * MAX_HEADER_BYTES + b"\r\n\r\n")
    assert came.startswith(b"HTTP/1.1 431")
    assert isinstance(httpx.Response(431, content=came.partition(b"\r\n\r\n")[2]).json()["error"], form)


def test_the_document_has_the_format_of_each_path():
    names = {"FLAT": "Refusal", "OPENAI": "OpenAIRefusal"}
    found = set()
    for path, methods in create(serving(Service())).openapi()["paths"].items():
        for operation in methods.values():
            schema = operation["responses"]["default"]["content"]["application/json"]["schema"]["$ref"]
            model = format_of(path.replace("{name}", "single")).model.__name__
            assert schema == f"#/components/schemas/{model}", path
            found.add(model)
    assert found == set(names.values())


# ---- OpenAI's client


def openai_client(url: str, key: str = SECRET) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


def classify(stock: openai.OpenAI, **body: object) -> object:
    return stock.post("/classify", body=body, cast_to=object)


def test_the_stock_client_lists_models_and_classifies(keys):
    with running(Service(), keys=keys) as server, openai_client(server.url) as stock:
        assert [one.id for one in stock.models.list()] == ["tiny", *Service().names]
        assert stock.models.retrieve("single").owned_by == "keras-peft"
        assert classify(stock, model="single", input=["abc"])["data"][0]["label"] == "beta"


def test_the_stock_client_raises_its_own_errors(keys):
    with running(Service(), keys=keys, max_body_bytes=1024) as server, openai_client(server.url) as stock:
        for ask in (
            lambda: classify(stock, model="nothing", input="a"),
            lambda: stock.models.retrieve("nothing"),
            lambda: stock.models.retrieve("owner/nothing"),
        ):
            with pytest.raises(openai.NotFoundError) as raised:
                ask()
            error = raised.value
            assert (error.status_code, error.code, error.type, error.param) == (
                404,
                "model_not_found",
                "invalid_request_error",
                "model",
            )
            assert "There is no" in error.message

        with pytest.raises(openai.NotFoundError) as raised:
            stock.post("/chat/completions", body={}, cast_to=object)
        assert (raised.value.code, raised.value.type) == ("unknown_url", "invalid_request_error")
        with pytest.raises(openai.APIStatusError) as raised:
            stock.get("/classify", cast_to=object)
        assert (raised.value.status_code, raised.value.code) == (405, "method_not_supported")
        assert raised.value.response.headers["allow"] == "POST"

        for key in ("wrong" * 8, "x"):
            with openai_client(server.url, key) as other, pytest.raises(openai.AuthenticationError) as raised:
                other.models.list()
            assert (raised.value.code, raised.value.type) == ("invalid_api_key", "invalid_request_error")
            assert "API key" in raised.value.message

        for body, field, words in (
            ({"model": "single"}, "input", "`input`: expected a text or a list of texts"),
            ({"model": "single", "input": []}, "input", "`input` is empty"),
            ({"input": "a"}, "model", "Set `model` to an adapter"),
            ({"model": "pairs", "input": ["a"]}, None, "Expected 2 texts"),
        ):
            with pytest.raises(openai.BadRequestError) as raised:
                classify(stock, **body)
            error = raised.value
            assert (error.type, error.code, error.param) == ("invalid_request_error", None, field)
            assert words in error.message
        with pytest.raises(openai.BadRequestError, match="not valid JSON"):
            stock.post("/classify", content=b"{", cast_to=object)
        with pytest.raises(openai.APIStatusError, match="more than 1,024 bytes") as raised:
            classify(stock, model="single", input="a" * 2000)
        assert (raised.value.status_code, raised.value.type) == (413, "invalid_request_error")


@pytest.mark.parametrize(
    ("failure", "raises", "kind", "code"),
    [
        (failures.Overloaded, openai.RateLimitError, "requests", "rate_limit_exceeded"),
        (failures.BackendFailed, openai.InternalServerError, "server_error", None),
        (failures.NotReady, openai.InternalServerError, "server_error", "unhealthy"),
        (failures.TimedOut, openai.InternalServerError, "server_error", "timeout"),
    ],
)
def test_the_stock_client_knows_what_may_be_tried_again(failure, raises, kind, code):
    with (
        running(failing(failure, retry_after=1.2)) as server,
        openai_client(server.url) as stock,
        pytest.raises(raises, match="It is so") as raised,
    ):
        classify(stock, model="single", input="a")
    assert (raised.value.type, raised.value.code) == (kind, code)
    assert raised.value.response.headers["retry-after"] == "2"


def test_the_stock_client_tries_again_after_a_refusal():
    service = failing(failures.Overloaded, retry_after=1)
    predict = service.predict

    async def once(*args, **options):
        try:
            return await predict(*args, **options)
        finally:
            service.fails = None

    service.predict = once
    with running(service) as server, openai_client(server.url).with_options(max_retries=1) as stock:
        assert classify(stock, model="single", input="abc")["data"][0]["label"] == "beta"
    assert len(service.asked) == 2
