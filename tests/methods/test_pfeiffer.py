"""Pfeiffer: Houlsby's bottleneck, once in each block."""

from __future__ import annotations

import keras_peft
from methods.counting import BLOCKS, DIM, adapted, count


def test_count():
    assert count(keras_peft.methods.PfeifferAdapter(size=5)) == BLOCKS * (2 * DIM * 5 + 5 + DIM)


def test_it_stands_after_the_feed_forward_part_only():
    model = adapted(keras_peft.methods.PfeifferAdapter())
    assert {weights.site.role for weights in model.adapters["default"].site_weights} == {"ffn.down"}
