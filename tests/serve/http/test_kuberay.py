"""Checks deploy/kubernetes/ray against the schemas of Kubernetes, the builder and the manifests of the folder above.

The schema of a RayService is not among those of Kubernetes; tests/cluster checks its configuration of Ray Serve.
"""

from __future__ import annotations

import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from conftest import ROOT
from keras_peft._version import __version__
from keras_peft.serve import on_ray
from keras_peft.serve.http import ray_proxy
from keras_peft.serve.on_ray import application

FOLDER = ROOT / "deploy" / "kubernetes"
SERVICE = yaml.safe_load((FOLDER / "ray" / "rayservice.yaml").read_text())
SERVE = yaml.safe_load(SERVICE["spec"]["serveConfigV2"])
(APPLICATION,) = SERVE["applications"]
CLUSTER = SERVICE["spec"]["rayClusterConfig"]
(WORKERS,) = CLUSTER["workerGroupSpecs"]
GROUPS = {"head": CLUSTER["headGroupSpec"], "workers": WORKERS}


@pytest.fixture
def built(monkeypatch):
    """What the arguments of the application mean."""
    calls = []
    monkeypatch.setattr(application, "build", lambda *given: calls.append(given))
    on_ray.app(APPLICATION["args"])
    (call,) = calls
    return call


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("version", ["1.29", "1.37"])
def test_the_pods_fit_the_schema_of_kubernetes(name, version):
    template = {"metadata": {"labels": SERVICE["metadata"]["labels"]}, **GROUPS[name]["template"]}
    pods = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": name}, "template": template}
    kubernetes_validate.validate(pods, version, strict=True)


@pytest.mark.parametrize("name", GROUPS)
def test_the_pods_find_their_files_and_the_middleware(name, built):
    (places, settings, _) = built
    pod = GROUPS[name]["template"]["spec"]
    (container,) = pod["containers"]
    mounts = {mount["name"]: Path(mount["mountPath"]) for mount in container["volumeMounts"]}
    claims = {volume["name"]: volume for volume in pod["volumes"]}
    assert places == [mounts["bundles"]]
    keys = yaml.safe_load((FOLDER / "keys.yaml").read_text())
    assert claims["keys"]["secret"]["secretName"] == keys["metadata"]["name"]
    (file,) = keys["stringData"]
    assert settings.keys == mounts["keys"] / file
    bundles = yaml.safe_load((FOLDER / "bundles.yaml").read_text())
    assert claims["bundles"]["persistentVolumeClaim"]["claimName"] == bundles["metadata"]["name"]
    environment = {one["name"]: one["value"] for one in container["env"]}
    assert environment[ray_proxy.VARIABLE] == ray_proxy.PATH
    assert container["image"].endswith(f":{__version__}")
    assert SERVE["http_options"]["port"] in {one["containerPort"] for one in container["ports"]}


def test_each_worker_has_room_for_a_replica(built):
    _, settings, replicas = built
    (container,) = WORKERS["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["cpu"] == str(replicas.cores)
    assert WORKERS["minReplicas"] == WORKERS["replicas"] == replicas.replicas
    assert WORKERS["maxReplicas"] == replicas.max_replicas
    assert CLUSTER["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert WORKERS["template"]["spec"]["terminationGracePeriodSeconds"] > settings.drain_timeout_s
    assert settings.open_metrics


def test_the_application_is_the_builder_and_the_image_has_its_version_of_ray():
    module, _, name = APPLICATION["import_path"].partition(":")
    assert (module, name) == (on_ray.__name__, on_ray.app.__name__)
    image = (FOLDER / "ray" / "Dockerfile").read_text()
    (version,) = re.findall(r"^FROM rayproject/ray:([\d.]+)-", image, re.MULTILINE)
    assert version == CLUSTER["rayVersion"]
    applied = yaml.safe_load((FOLDER / "ray" / "kustomization.yaml").read_text())
    assert applied["resources"] == ["rayservice.yaml"]
