"""Checks deploy/kubernetes against the schemas of Kubernetes, the server and the image."""

from __future__ import annotations

import hashlib
import json
import re

import kubernetes_validate
import pytest
import yaml

from conftest import ROOT
from keras_peft._version import __version__
from keras_peft.serve.http.authentication import PROBES
from keras_peft.serve.keys import Keys
from serve.command import what_is_served

FOLDER = ROOT / "deploy" / "kubernetes"
MANIFESTS = {
    path.name: yaml.safe_load(path.read_text())
    for path in sorted(FOLDER.glob("*.yaml"))
    if path.name != "kustomization.yaml"
}
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
NAME = {"app.kubernetes.io/name": "keras-peft"}
DEPLOYMENT = MANIFESTS["deployment.yaml"]["spec"]
POD = DEPLOYMENT["template"]["spec"]
(SERVER,) = POD["containers"]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()


@pytest.mark.parametrize("name", MANIFESTS)
@pytest.mark.parametrize("version", ["1.29", "1.37"])
def test_a_manifest_fits_the_schema_of_kubernetes(name, version):
    kubernetes_validate.validate(MANIFESTS[name], version, strict=True)


def test_a_wrong_manifest_does_not():
    wrong = json.loads(json.dumps(MANIFESTS["deployment.yaml"]).replace("livenessProbe", "livenesProbe"))
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.37", strict=True)


def test_kustomize_applies_every_file_and_the_image_of_this_version():
    assert KUSTOMIZATION["resources"] == sorted(MANIFESTS)
    (generator,) = KUSTOMIZATION["configMapGenerator"]
    assert all((FOLDER / file).is_file() for file in generator["files"])
    (image,) = KUSTOMIZATION["images"]
    assert (image["name"], image["newTag"]) == (SERVER["image"], __version__)


def test_the_parts_refer_to_each_other():
    assert DEPLOYMENT["template"]["metadata"]["labels"] == NAME
    assert MANIFESTS["service.yaml"]["spec"]["selector"] == NAME
    assert DEPLOYMENT["selector"]["matchLabels"] == NAME
    assert MANIFESTS["disruption-budget.yaml"]["spec"]["selector"]["matchLabels"] == NAME
    target = MANIFESTS["autoscaler.yaml"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == (
        "Deployment",
        MANIFESTS["deployment.yaml"]["metadata"]["name"],
    )
    least = MANIFESTS["autoscaler.yaml"]["spec"]["minReplicas"]
    assert least > MANIFESTS["disruption-budget.yaml"]["spec"]["minAvailable"]
    volumes = {volume["name"]: volume for volume in POD["volumes"]}
    assert volumes.keys() == {mount["name"] for mount in SERVER["volumeMounts"]}
    assert volumes["config"]["configMap"]["name"] == KUSTOMIZATION["configMapGenerator"][0]["name"]
    assert volumes["keys"]["secret"]["secretName"] == MANIFESTS["keys.yaml"]["metadata"]["name"]
    assert (
        volumes["bundles"]["persistentVolumeClaim"]["claimName"]
        == MANIFESTS["bundles.yaml"]["metadata"]["name"]
    )


def test_the_server_finds_its_files_and_is_found_at_its_port(command_line, monkeypatch):
    places, settings = what_is_served(command_line, monkeypatch, "--config", FOLDER / "serve.toml")
    mounts = {mount["name"]: mount["mountPath"] for mount in SERVER["volumeMounts"]}
    assert [mounts["bundles"]] == [str(place) for place in places]
    # The image reads this file without any arguments.
    (file,) = KUSTOMIZATION["configMapGenerator"][0]["files"]
    assert f'"{mounts["config"]}/{file}"]' in DOCKERFILE
    assert "args" not in SERVER and "command" not in SERVER
    (key,) = MANIFESTS["keys.yaml"]["stringData"]
    assert f"{mounts['keys']}/{key}" == str(settings.keys)
    (port,) = SERVER["ports"]
    assert port["containerPort"] == settings.port
    assert [one["targetPort"] for one in MANIFESTS["service.yaml"]["spec"]["ports"]] == [port["name"]]
    annotations = DEPLOYMENT["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(settings.port)
    # Prometheus has no key.
    assert settings.open_metrics
    assert annotations["prometheus.io/path"] == "/metrics"


def test_the_probes_are_those_of_the_server():
    paths = {name: SERVER[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {probe["path"] for probe in paths.values()} <= PROBES
    assert paths["readinessProbe"]["path"] == "/readyz"
    assert paths["livenessProbe"]["path"] == "/livez"
    assert {probe["port"] for probe in paths.values()} == {"http"}


def test_the_server_has_the_time_the_processors_and_the_rights_that_it_needs(command_line, monkeypatch):
    _, settings = what_is_served(command_line, monkeypatch, "--config", FOLDER / "serve.toml")
    assert POD["terminationGracePeriodSeconds"] > settings.pre_stop_s + settings.drain_timeout_s
    assert SERVER["resources"]["limits"]["cpu"] == str(settings.workers)
    user, group = re.search(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE).groups()
    security = POD["securityContext"] | SERVER["securityContext"]
    assert (security["runAsUser"], security["runAsGroup"]) == (int(user), int(group))
    assert security["runAsNonRoot"] and security["readOnlyRootFilesystem"]
    # The server writes nowhere else.
    writable = {mount["mountPath"] for mount in SERVER["volumeMounts"] if not mount.get("readOnly")}
    assert writable == set(re.findall(r"\bHOME=(\S+)", DOCKERFILE))


def test_the_keys_are_an_example_that_the_server_reads_and_nobody_has(tmp_path):
    file = tmp_path / "keys.toml"
    file.write_text(MANIFESTS["keys.yaml"]["stringData"]["keys.toml"])
    assert len(Keys.read(file, {})) == 2
    assert all(not set(digest[:-1]) - {"0"} for digest in re.findall(r'sha256 = "(\w+)"', file.read_text()))
    assert hashlib.sha256(b"").hexdigest() not in file.read_text()
