"""Adapters on a base that several devices share: `keras.distribution.ModelParallel` on JAX.

The cases run in processes with eight virtual CPU devices, in a mesh of 2 × 4; see eight_devices.py.
"""

import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from keras_peft import methods

pytestmark = pytest.mark.one_backend

PROGRAM = Path(__file__).parent / "eight_devices.py"
MEMBER = Path(__file__).parent / "sharing_member.py"
PATIENCE = 300.0
MODEL, BATCH = ["model"], ["batch"]
# The axes of the mesh that divide each weight. The query of Llama has the layout (model, batch, None), from inputs to
# heads; that of Gemma (model, batch, None), from heads to inputs.
LAYOUTS = {
    ("llama", "lora"): {
        "transformer_layer_0/self_attention/query/lora/a": ["model", None],
        "transformer_layer_0/self_attention/query/lora/b": [None, "batch"],
        "transformer_layer_0/self_attention/value/lora/a": ["model", None],
        "transformer_layer_0/self_attention/value/lora/b": [None, "batch"],
    },
    ("gemma", "lora"): {
        "decoder_block_0/attention/query/lora/a": ["batch", None],
        "decoder_block_0/attention/query/lora/b": [None, "model"],
        "decoder_block_0/attention/value/lora/a": ["batch", None],
        "decoder_block_0/attention/value/lora/b": [None, "model"],
    },
    ("llama", "pfeiffer"): {
        "transformer_layer_0/feedforward_output_dense/pfeiffer/down": ["batch", None],
        "transformer_layer_0/feedforward_output_dense/pfeiffer/down_bias": [None],
        "transformer_layer_0/feedforward_output_dense/pfeiffer/up": [None, "batch"],
        "transformer_layer_0/feedforward_output_dense/pfeiffer/up_bias": ["batch"],
    },
    ("gemma", "pfeiffer"): {
        "decoder_block_0/ffw_linear/pfeiffer/down": ["batch", None],
        "decoder_block_0/ffw_linear/pfeiffer/down_bias": [None],
        "decoder_block_0/ffw_linear/pfeiffer/up": [None, "batch"],
        "decoder_block_0/ffw_linear/pfeiffer/up_bias": ["batch"],
    },
}
# Weights without an axis of the base.
ON_EVERY_DEVICE = {
    "adalora/e", "compacter/down_left", "compacter/down_right", "compacter/down_bias", "compacter/up_left",
    "compacter/up_right", "compacter/rule", "houlsby/down_bias", "lokr/k", "lokr/c", "loreft/bias", "oft/skew",
    "p-tuning/dense_0_bias", "p-tuning/dense_1", "p-tuning/dense_1_bias", "parallel/down_bias", "pfeiffer/down_bias",
    "pfeiffer-norm/down_bias", "vera/scale_d",
}  # fmt: skip


def on_eight_devices(case, folder):
    """Runs a case and returns what it found."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", PROGRAM, case, folder],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module", params=["llama", pytest.param("gemma", marks=pytest.mark.thorough)])
def trained(request, tmp_path_factory):
    """What training on one device and on eight gave, with the name of the base and the folder of the adapters."""
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, on_eight_devices(request.param, folder), folder


@pytest.fixture(params=["lora", "pfeiffer"])
def found(request, trained):
    """The same for one method, with the name of the base and the method."""
    base, both, folder = trained
    return (base, request.param), both[request.param], folder / request.param


@pytest.mark.feature(
    "Training",
    "`keras.distribution.ModelParallel`, on JAX",
    "works",
    "The weights of adapters are divided like the layers that they act on.",
)
def test_weights_are_divided_like_the_layer_that_they_act_on(found):
    case, found, _ = found
    for when in ("layouts", "trained", "layouts of the loaded"):
        assert found[when] == LAYOUTS[case], when
    assert found["slots"] == {key: [axes, axes] for key, axes in LAYOUTS[case].items()}


def test_eight_devices_train_as_one(found):
    _, found, folder = found
    assert found["losses"][1] < found["losses"][0]
    np.testing.assert_allclose(found["losses"], found["losses alone"], rtol=1e-5)
    alone, together = (load_file(folder / name / "adapter.safetensors") for name in ("alone", "together"))
    assert list(alone) == list(together)
    for key, value in alone.items():
        assert together[key].dtype == value.dtype
        np.testing.assert_allclose(together[key], value, atol=1e-5, err_msg=key)


def test_a_saved_adapter_does_not_depend_on_the_devices(found):
    _, found, folder = found
    alone, together = (
        json.loads((folder / name / "adapter.json").read_text()) for name in ("alone", "together")
    )
    assert {**alone, "sha256": ""} == {**together, "sha256": ""}
    files = [sorted(file.name for file in (folder / name).iterdir()) for name in ("alone", "together")]
    assert files == [["adapter.json", "adapter.safetensors"]] * 2
    assert found["loaded alone"] < 1e-5
    assert found["loaded together"] < 1e-5


def test_merging_and_detaching_leave_the_base_where_it_was(found):
    (_, method), found, _ = found
    assert found["base"] == 0
    before, after = found["layouts of the base"]
    assert before == after
    if method == "lora":
        assert found["unmerged"] == 0
        assert max(found["merged"], found["merged for good"]) < 1e-5
    else:
        assert found["detached"] == 0


def test_rows_that_do_not_divide_are_predicted(found):
    assert found[1]["seven rows"] < 1e-6


@pytest.mark.thorough
def test_processes_that_hold_parts_of_the_weights_save_all_of_them(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    members = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", MEMBER, str(rank), str(port), tmp_path],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [member.communicate(timeout=PATIENCE)[0] for member in members]
    finally:
        for member in members:
            # A process that waits for another does not react to a request to stop.
            member.kill()
            member.wait()
    assert [member.returncode for member in members] == [0, 0], said
    alone, first, second = (
        load_file(tmp_path / name / "adapter.safetensors") for name in ("alone", "together0", "together1")
    )
    assert list(alone) == list(first) == list(second)
    for key, value in alone.items():
        np.testing.assert_allclose(first[key], value, atol=1e-5, err_msg=key)
        np.testing.assert_array_equal(second[key], first[key], err_msg=key)


@pytest.mark.thorough
@pytest.mark.feature(
    "Training",
    "`keras.distribution.DataParallel`, on JAX",
    "works",
    "Arrays whose batches cannot be divided are refused in `fit` and `evaluate`.",
)
def test_a_base_in_full_on_each_device_trains_as_one(tmp_path):
    found = on_eight_devices("data", tmp_path)
    alone, together = found["alone"], found["together"]
    assert alone["losses"][1] < alone["losses"][0]
    np.testing.assert_allclose(together["losses"], alone["losses"], rtol=1e-5)
    assert np.shape(together["outputs"]) == (11, 3)
    np.testing.assert_allclose(together["outputs"], alone["outputs"], atol=1e-5)
    assert found["refused"].startswith(
        "11 rows in batches of 8 give a batch of 3 rows, which cannot be split equally"
    )
    assert "divide" in found["failed"]
    assert 0 < found["evaluated"] < alone["losses"][0]


def test_entries_of_the_layout_map_come_first(tmp_path):
    found = on_eight_devices("entries", tmp_path)
    assert found["usual"] == [["model", None], [None, "batch"]]
    assert found["own"] == [[None, "model"], [None, "batch"]]
    assert found["own, on every device"] == [[None, None], [None, "batch"]]
    assert found["inner axis"] == [["model", None], [None, None]]
    assert all(difference < 1e-6 for difference in found["large"].values()), found["large"]
    weight = "'transformer_layer_0_self_attention_layer_query_lora/a', a weight of the adapter of shape"
    assert f"{weight} (16, 3), the layout (None, 'model'), which does not" in found["own, uneven"]
    assert f"{weight} (16, 4), the layout ('model', 'batch', None), which does not" in found["too wide"]


@pytest.mark.thorough
def test_every_method_trains_and_loads_on_one_device(tmp_path):
    found = on_eight_devices("methods", tmp_path)
    assert list(found) == methods.names()
    undivided = set()
    for name, one in found.items():
        alone, losses = one["losses"]
        assert np.isfinite(losses).all(), name
        np.testing.assert_allclose(losses, alone, rtol=1e-4, err_msg=name)
        assert one["tensors"] < 1e-4, name
        assert one["outputs"] < 1e-5, name
        undivided |= {"/".join(key.split("/")[-2:]) for key, axes in one["layouts"].items() if not any(axes)}
    # The layout map divides every layer of the base.
    assert undivided == ON_EVERY_DEVICE
