"""What is said before Ray is started."""

from __future__ import annotations

import socket
import sys

import pytest

from keras_peft import cluster
from keras_peft.errors import ExtraNotInstalled, OptionError
from keras_peft.places import check_place


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nothing_listens_is_told(scheme):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # It does not listen.
        address = f"{scheme}127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(OptionError, match=f"No Ray cluster answers at {address}, .* unset RAY_ADDRESS"):
            cluster._check_reachable(address)


def test_an_address_where_something_listens_is_left_to_ray():
    with socket.create_server(("127.0.0.1", 0)) as server:
        cluster._check_reachable(f"127.0.0.1:{server.getsockname()[1]}")
    cluster._check_reachable("auto")


def test_a_missing_ray_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(ExtraNotInstalled, match=r"Predicting on Ray needs ray, .* 'keras-peft\[ray\]'"),
        cluster.joined("Predicting on Ray"),
    ):
        pass


def test_an_unknown_place_is_told():
    with pytest.raises(OptionError, match=r"`on='rya'`: expected one of machine, ray. Did you mean 'ray'\?"):
        check_place("rya")
