from __future__ import annotations

import hashlib

import pytest

from keras_peft.errors import OptionError
from keras_peft.serve.http.authentication import PROBES, is_local_name
from keras_peft.serve.keys import Key, Keys, check_exposure
from keras_peft.serve.settings import ServeSettings
from serve.fake import Service, client

DATA, ADMIN, NARROW = "d" * 24, "a" * 24, "n" * 24
BODY = {"inputs": "a", "adapter_id": "single"}


def digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


KEYS = Keys(
    [
        Key("data", digest(DATA)),
        Key("admin", digest(ADMIN), admin=True),
        Key("narrow", digest(NARROW), adapters=frozenset({"single"})),
    ]
)


@pytest.mark.parametrize("key", [DATA, ADMIN])
def test_a_known_key_opens_what_predicts(key):
    service = Service()
    with client(service, keys=KEYS, key=key) as http:
        assert http.post("/predict", json=BODY).status_code == 200
        assert http.get("/metrics").status_code == 200
    assert service.asked[0][2].name == ("data" if key == DATA else "admin")


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (f"Bearer {DATA}", 200),
        (f"bearer  {DATA}", 200),
        (f"Basic {DATA}", 401),
        (DATA, 401),
        ("Bearer", 401),
        ("", 401),
        (None, 401),
    ],
)
def test_a_key_comes_as_a_bearer_token(header, status):
    with client(keys=KEYS) as http:
        headers = {} if header is None else {"authorization": header}
        assert http.post("/predict", json=BODY, headers=headers).status_code == status


def test_probes_and_the_page_need_no_key_and_metrics_by_choice():
    with client(keys=KEYS) as http:
        for path in (*PROBES, "/"):
            assert http.get(path).status_code == 200
        assert http.get("/metrics").status_code == 401
        assert http.post("/", json={"inputs": "a"}).status_code == 401
    with client(keys=KEYS, open_metrics=True) as http:
        assert http.get("/metrics").status_code == 200
    with client(keys=KEYS, page=False) as http:
        assert http.get("/").status_code == 401


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2/repository/models/single/load", {}),
        ("/v2/repository/models/single/unload", {}),
        ("/v1/load_lora_adapter", {"lora_name": "single"}),
        ("/v1/unload_lora_adapter", {"lora_name": "single"}),
    ],
)
def test_loading_and_unloading_take_a_key_of_their_own(path, body):
    service = Service()
    with client(service, keys=KEYS, key=DATA) as http:
        answer = http.post(path, json=body)
    assert answer.status_code == 403
    assert service.adapters.there["single"].generation == 1
    assert service.adapters.there["single"].state == "READY"
    with client(service, keys=KEYS, key=ADMIN) as http:
        assert http.post(path, json=body).status_code == 200


def test_a_key_with_adapters_of_its_own_knows_no_others():
    with client(keys=KEYS, key=NARROW) as http:
        assert http.post("/predict", json=BODY).status_code == 200
        # The key allows one adapter, so the request needs no name.
        assert http.post("/predict", json={"inputs": "a"}).status_code == 200
        there = http.post("/predict", json={"inputs": "a", "adapter_id": "pairs"})
        absent = http.post("/predict", json={"inputs": "a", "adapter_id": "nothing"})
        assert (there.status_code, there.json()) == (absent.status_code, absent.json())
        assert there.status_code == 404
        both = http.post("/predict", json={"inputs": "a", "adapter_id": ["single", "pairs"]})
        assert both.status_code == 404
        listed = [http.get("/v1/models"), http.get("/v1/adapters"), http.get("/info")]
        listed += [
            http.post("/v2/repository/index"),
            http.get("/v1/models/pairs"),
            http.get("/v1/adapters/pairs"),
        ]
        listed += [http.get("/v2/models/pairs"), http.get("/v2/models/pairs/ready"), there]
    assert all("pairs" not in answer.text for answer in listed)


def test_pages_of_other_sites_are_turned_away():
    with client() as http:
        own = http.post("/predict", json=BODY, headers={"origin": "http://localhost"})
        other = http.post("/predict", json=BODY, headers={"origin": "https://evil.example"})
        hidden = http.post("/v2/repository/models/single/unload", headers={"origin": "null"})
        # A host name that another site resolves to this machine.
        rebound = http.get("/info", headers={"host": "evil.example"})
        assert http.get("/livez", headers={"host": "10.0.0.7:8000"}).status_code == 200
    assert own.status_code == 200
    assert [other.status_code, hidden.status_code, rebound.status_code] == [403, 403, 403]
    assert "access-control-allow-origin" not in own.headers
    with client(keys=KEYS, key=DATA) as http:
        assert http.get("/info", headers={"host": "models.example"}).status_code == 200
    with client(host="0.0.0.0", without_keys=True) as http:
        assert http.get("/info", headers={"host": "models.example"}).status_code == 200


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("localhost", True),
        ("localhost:8000", True),
        ("app.localhost:8000", True),
        ("127.0.0.1:8000", True),
        ("[::1]:8000", True),
        ("192.168.0.7", True),
        ("evil.example:8000", False),
        ("localhost.evil.example", False),
        ("", False),
    ],
)
def test_names_that_no_other_site_can_have(host, is_local):
    assert is_local_name(host) is is_local


def test_keys_of_the_environment_and_of_a_file(tmp_path):
    file = tmp_path / "keys.toml"
    file.write_text(
        f'[[key]]\nname = "billing"\nsha256 = "{hashlib.sha256(NARROW.encode()).hexdigest()}"\n'
        'adapters = ["intents"]\nrequests_per_minute = 600\n'
        f'[[key]]\nname = "deploy"\nkey = "{"p" * 20}"\nadmin = true\n'
    )
    keys = Keys.read(file, {"KERAS_PEFT_API_KEY": DATA, "KERAS_PEFT_ADMIN_KEY": ADMIN})
    assert len(keys) == 4

    def found(secret: str) -> tuple[str, bool]:
        key = keys.find(secret.encode())
        return (key.name, key.admin) if key else ("", False)

    assert found(DATA) == ("environment", False)
    assert found(ADMIN) == ("environment-admin", True)
    assert found("p" * 20) == ("deploy", True)
    assert found(NARROW) == ("billing", False)
    assert keys.find(NARROW.encode()).may_use("intents")
    assert not keys.find(NARROW.encode()).may_use("other")
    assert keys.find(NARROW.encode()).requests_per_minute == 600
    assert keys.find(DATA.encode()).requests_per_minute is None
    assert keys.find(b"") is keys.find(b"Bearer " + DATA.encode()) is None
    assert DATA not in repr(list(vars(keys).items()))
    assert not Keys.read(None, {})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('[[key]]\nname = "a"\nkey = "short"', "has 5 characters; expected at least 16"),
        ('[[key]]\nname = "a"', "expected either sha256 or key"),
        ('[[key]]\nname = "a"\nsha256 = "12"', "64 hexadecimal digits"),
        (f'[[key]]\nkey = "{DATA}"', "has no name"),
        (f'[[key]]\nname = "a"\nkey = "{DATA}"\nadmin = 1', "admin must be true or false"),
        (f'[[key]]\nname = "a"\nkey = "{DATA}"\nadapters = "x"', "adapters must be a list"),
        *(
            (
                f'[[key]]\nname = "a"\nkey = "{DATA}"\nrequests_per_minute = {rate}',
                f"requests_per_minute must be a whole number of at least 1, got {shown}",
            )
            for rate, shown in [("0", "0"), ("1.5", "1.5"), ("true", "True"), ("'many'", "'many'")]
        ),
        (f'[[key]]\nname = "a"\nkey = "{DATA}"\nadaptors = []', "Did you mean 'adapters'?"),
        (
            f'[[key]]\nname = "a"\nkey = "{DATA}"\n[[key]]\nname = "a"\nkey = "{ADMIN}"',
            "Two keys have the same name",
        ),
        (
            f'[[key]]\nname = "a"\nkey = "{DATA}"\n[[key]]\nname = "b"\nkey = "{DATA}"',
            "Two keys have the same secret",
        ),
        (f'key = "{DATA}"', "expected [[key]] tables"),
        ("[[key", "is not valid TOML"),
        ("#" * (5 << 20), "has more than 4,194,304 bytes"),
        ("key = " + "9" * 5000, "is not valid TOML"),
        ("key = " + "[" * 5000 + "]" * 5000, "is nested too deeply; expected [[key]] tables"),
        ("", "expected [[key]] tables"),
    ],
)
def test_keys_that_cannot_be_used(tmp_path, content, words):
    file = tmp_path / "keys.toml"
    file.write_text(content)
    with pytest.raises(OptionError) as told:
        Keys.read(file, {})
    assert words in str(told.value)
    assert DATA not in str(told.value)


def test_a_weak_key_of_the_environment_and_a_file_that_is_not_there(tmp_path):
    with pytest.raises(OptionError, match="KERAS_PEFT_API_KEY has 3 characters"):
        Keys.read(None, {"KERAS_PEFT_API_KEY": "abc"})
    with pytest.raises(OptionError, match="cannot be read: No such file"):
        Keys.read(tmp_path / "none.toml", {})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "models.example"])
def test_an_address_that_others_reach_needs_keys(host):
    with pytest.raises(OptionError, match="KERAS_PEFT_API_KEY"):
        check_exposure(ServeSettings(host=host), Keys())
    check_exposure(ServeSettings(host=host), KEYS)
    check_exposure(ServeSettings(host=host, without_keys=True), Keys())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.9.9.9"])
def test_this_machine_alone_needs_none(host):
    check_exposure(ServeSettings(host=host), Keys())
