"""Requests from the web pages of other sites."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from keras_peft.errors import OptionError
from keras_peft.serve.keys import Key, Keys
from keras_peft.serve.settings import ServeSettings
from serve.command import what_is_served
from serve.fake import Service, client

BODY = {"inputs": "a", "adapter_id": "single"}
SECRET = "d" * 24
KEYS = Keys([Key("page", hashlib.sha256(SECRET.encode()).digest())])
ORIGIN = "https://app.example.org"
PREFLIGHT = {
    "origin": ORIGIN,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type",
}


@pytest.mark.parametrize("allowed", [ORIGIN, "*"])
def test_the_page_of_an_allowed_site_can_ask_with_its_key(allowed):
    with client(keys=KEYS, allow_origins=[allowed]) as http:
        asked = http.options("/predict", headers=PREFLIGHT)
        headers = {"origin": ORIGIN, "authorization": f"Bearer {SECRET}"}
        answer = http.post("/predict", json=BODY, headers=headers)
        refused = http.post("/predict", json=BODY, headers={"origin": ORIGIN})
    assert asked.status_code == 200
    assert "POST" in asked.headers["access-control-allow-methods"]
    assert "authorization" in asked.headers["access-control-allow-headers"].lower()
    assert (answer.status_code, refused.status_code) == (200, 401)
    for one in (asked, answer, refused):
        assert one.headers["access-control-allow-origin"] == allowed
        assert "access-control-allow-credentials" not in one.headers
    # A page can read the error and when to ask again.
    assert refused.json()["error_type"] == "authentication"
    assert "retry-after" in refused.headers["access-control-expose-headers"]


def test_other_sites_are_refused_and_the_own_page_is_not():
    other = {**PREFLIGHT, "origin": "https://evil.example"}
    service = Service()
    with client(service, allow_origins=[ORIGIN]) as http:
        assert http.options("/predict", headers=other).status_code == 400
        refused = http.post("/predict", json=BODY, headers={"origin": "https://evil.example"})
        own = http.post("/predict", json=BODY, headers={"origin": "http://localhost"})
    assert (refused.status_code, own.status_code, service.answered) == (403, 200, 1)
    assert "access-control-allow-origin" not in refused.headers


CROSS = {"sec-fetch-site": "cross-site"}
FOREIGN = {"referer": "https://evil.example/page?http://localhost"}


@pytest.mark.parametrize(
    "headers",
    [
        CROSS,
        {"sec-fetch-site": "same-site"},
        FOREIGN,
        {**CROSS, **FOREIGN},
        {"referer": "http://localhost.evil.example/"},
        {"referer": "http://localhost:9/"},
        {"referer": "localhost"},
    ],
)
def test_an_image_or_frame_of_another_site_loads_no_adapter(headers):
    service = Service()
    state = service.adapters.there["single"]
    service.adapters.there["single"] = replace(state, state="UNLOADED")
    with client(service) as http:
        answers = [http.get(path, headers=headers) for path in ("/v2/models/single", "/v1/adapters/single")]
        assert {answer.status_code for answer in answers} == {403}
        assert service.adapters.there["single"].state == "UNLOADED"
        # Probes, the page and the documentation change nothing.
        for path in ("/livez", "/", "/docs"):
            assert http.get(path, headers=headers).status_code == 200
        assert http.get("/v2/models/single").status_code == 200
        assert service.adapters.there["single"].state == "READY"


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "same-origin", "referer": "http://localhost/page"},
        {"referer": "http://localhost/page?a=://b"},
        {**CROSS, "referer": f"{ORIGIN}/page"},
        {**CROSS, "origin": ORIGIN},
        {"referer": f"{ORIGIN}?q"},
    ],
)
def test_the_own_page_the_address_bar_and_allowed_sites_are_answered(headers):
    with client(allow_origins=[ORIGIN]) as http:
        assert http.get("/v2/models/single", headers=headers).status_code == 200


def test_by_default_no_site_is_allowed():
    with client() as http:
        asked = http.options("/predict", headers=PREFLIGHT)
        answer = http.post("/predict", json=BODY, headers={"origin": ORIGIN})
    assert (asked.status_code, answer.status_code) == (403, 403)
    for one in (asked, answer):
        assert not [name for name in one.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "origin",
    ["app.example.org", f"{ORIGIN}/", f"{ORIGIN}/page", f"{ORIGIN},{ORIGIN}", "https://*.example.org", ""],
)
def test_what_is_not_an_origin(origin):
    with pytest.raises(OptionError, match="is not an origin"):
        ServeSettings(allow_origins=[origin])


def test_origins_are_repeated_flags_or_a_list_in_the_file(command_line, monkeypatch, tmp_path):
    (tmp_path / "serve.toml").write_text(f'allow-origins = ["{ORIGIN}", "http://localhost:3000"]\n')
    for arguments, origins in [
        (["--config", "serve.toml"], (ORIGIN, "http://localhost:3000")),
        (["--allow-origins", ORIGIN, "--allow-origins", "*"], (ORIGIN, "*")),
        ([], ()),
    ]:
        _, settings = what_is_served(command_line, monkeypatch, ".", *arguments)
        assert settings.allow_origins == origins
    code, _, err = command_line("serve", ".", "--allow-origins", "app.example.org")
    assert code == 2
    assert "--allow-origins app.example.org is not an origin" in err
