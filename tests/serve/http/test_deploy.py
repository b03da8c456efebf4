"""Checks deploy/ against the server: metrics, flags, routes and timeouts."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from conftest import ROOT
from keras_peft.serve.metrics import Metrics
from keras_peft.serve.settings import ServeSettings
from serve.command import what_is_served

DEPLOY = ROOT / "deploy"
PREFIX = "keras_peft_"
CONFIGURATION = "/etc/keras-peft/serve.toml"


def expressions(part):
    """All PromQL expressions of a dashboard."""
    if isinstance(part, dict):
        yield from (part[key] for key in ("expr", "definition") if key in part)
    for value in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from expressions(value)


def shown():
    """The server metrics on the dashboard, without the suffixes of histograms and counters."""
    dashboard = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
    names = set(re.findall(rf"\b{PREFIX}\w+", " ".join(expressions(dashboard))))
    return {re.sub("_(bucket|sum|count|total)$", "", name) for name in names}


def counted():
    return {family.name for family in Metrics().registry.collect() if family.name.startswith(PREFIX)}


def test_the_dashboard_shows_every_metric_of_the_server_and_no_other():
    assert shown() == counted()


def test_panels_do_not_overlap():
    panels = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())["panels"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert max(x for x, _ in cells) < 24


# Flags of docker, pip, cp and systemctl.
FOREIGN = {
    "--build",
    "--from",
    "--interval",
    "--no-deps",
    "--now",
    "--profile",
    "--retries",
    "--start-period",
}
FOREIGN |= {"--build-arg", "--entrypoint", "--no-cache-dir", "--target", "--timeout", "--wait"}


@pytest.mark.parametrize(
    "name",
    ["Dockerfile", "alerts.yaml", "compose.yaml", "keras-peft.service", "nginx.conf", "prometheus.yaml"],
)
def test_every_flag_that_is_named_is_one_of_the_server(name):
    flags = {f"--{one.replace('_', '-')}" for one in ServeSettings.__dataclass_fields__} | {"--config"}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", (DEPLOY / name).read_text()))
    assert named & flags, f"{name} names none"
    assert named <= flags | FOREIGN


def test_service_managers_wait_until_the_server_has_drained():
    drained = ServeSettings().drain_timeout_s + ServeSettings().pre_stop_s
    for name, pattern in (
        ("keras-peft.service", r"TimeoutStopSec=(\d+)"),
        ("compose.yaml", r"stop_grace_period: (\d+)s"),
    ):
        assert int(re.search(pattern, (DEPLOY / name).read_text())[1]) > drained


def test_nginx_lets_go_of_connections_before_the_server_does_and_of_requests_after_it():
    text, settings = (DEPLOY / "nginx.conf").read_text(), ServeSettings()
    assert int(re.search(r"keepalive_timeout (\d+)s", text)[1]) < settings.idle_timeout_s
    assert int(re.search(r"proxy_read_timeout (\d+)s", text)[1]) > settings.deadline_ms / 1000
    assert int(re.search(r"client_max_body_size (\d+)m", text)[1]) << 20 >= settings.max_body_bytes


def test_nginx_keeps_out_what_loads_and_unloads():
    from keras_peft.serve.http.routes import metrics, repository, vllm

    closed = re.search(r"location ~ (\S+) \{", (DEPLOY / "nginx.conf").read_text())[1]
    for router in (repository.control, vllm.control, metrics.router):
        for route in router.routes:
            assert re.search(closed, route.path), route.path
    for path in (
        "/predict",
        "/v1/classify",
        "/v2/models/mood/infer",
        "/v2/repository/index",
        "/adapters/mood",
    ):
        assert not re.search(closed, path), path


def test_the_images_base_is_the_one_of_the_makefile():
    base = re.search(r"^BASE := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    assert base in (DEPLOY / "Dockerfile").read_text()


def test_the_image_starts_with_its_configuration_file(command_line, monkeypatch):
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    entry = json.loads(re.search(r"^ENTRYPOINT (.*)$", dockerfile, re.MULTILINE)[1])
    assert entry == ["keras-peft", "serve", "--config", CONFIGURATION]
    assert f"COPY deploy/serve.toml {CONFIGURATION}\n" in dockerfile
    assert "!deploy/serve.toml" in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    places, settings = what_is_served(command_line, monkeypatch, "--config", DEPLOY / "serve.toml")
    assert places == [Path("/bundles")]
    assert f"EXPOSE {settings.port}\n" in dockerfile
    assert f"http://127.0.0.1:{settings.port}/livez" in dockerfile
    compose = (DEPLOY / "compose.yaml").read_text()
    assert f':{settings.port}"' in compose
    assert f":{places[0]}:ro" in compose


def test_every_variable_of_the_environment_that_is_named_is_read():
    source = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    for path in DEPLOY.rglob("*"):
        for name in re.findall(r"\bKERAS_PEFT_[A-Z_]+", path.read_text() if path.is_file() else ""):
            assert f'"{name}"' in source, f"{path.name}: {name}"
