"""The model card."""

from __future__ import annotations

import json

from keras_peft.bundle.card import as_model_card


def test_the_card_has_metadata(bundle):
    content = json.loads((bundle / "report.json").read_text())
    card = as_model_card(content, "my bundle")
    head = card.split("---")[1]
    assert "library_name: keras" in head
    assert f"value: {content['validation']['accuracy']:.4f}" in head
    assert "keras_peft.load(" in card
