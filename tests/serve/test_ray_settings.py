"""The settings of replicas on Ray, as far as Ray is not needed."""

from __future__ import annotations

import pytest

from keras_peft.errors import OptionError
from keras_peft.serve.on_ray import app
from keras_peft.serve.on_ray.application import build
from keras_peft.serve.on_ray.settings import RaySettings
from keras_peft.serve.settings import ServeSettings


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"replicas": 0}, "`replicas=0`: expected 1 or more."),
        ({"cores": 0}, "`cores=0`: expected 1 or more."),
        (
            {"gpus": -1.0},
            "`gpus=-1.0`: expected 0, a share of a GPU, such as 0.5, or a whole number of them.",
        ),
        ({"gpus": 1.5}, "`gpus=1.5`: expected 0, a share of a GPU, such as 0.5, or a whole number of them."),
        ({"replicas": 3, "max_replicas": 2}, "`max_replicas=2`: expected at least `replicas=3`."),
    ],
)
def test_wrong_settings_are_refused(wrong, expected):
    with pytest.raises(OptionError) as caught:
        RaySettings(**wrong)
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"replica": "2"}, "Unknown argument 'replica'. Did you mean 'replicas'?"),
        # Ray's proxies listen, not the replicas.
        ({"port": "8000"}, "Unknown argument 'port'."),
        ({"replicas": "two"}, "`replicas='two'`: Input should be a valid integer"),
        ({"max_queue": "0"}, "`max_queue` must be at least 1"),
    ],
)
def test_wrong_arguments_of_serve_run_are_refused(wrong, expected):
    with pytest.raises(OptionError) as caught:
        app({"bundles": "bundles", **wrong})
    assert str(caught.value).startswith(expected)


def test_without_a_watch_replicas_would_differ(tmp_path):
    with pytest.raises(OptionError, match=r"`watch_s=0`: expected more on Ray"):
        build([tmp_path], ServeSettings(watch_s=0), RaySettings())


def test_options_of_ray_need_ray(command_line, tmp_path):
    code, _, said = command_line("serve", tmp_path, "--replicas", 2)
    assert code == 2
    assert "--replicas is for replicas on Ray; add --on ray." in " ".join(said.split())
