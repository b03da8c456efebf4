"""ALBERT: Lan et al. 2019, https://arxiv.org/abs/1909.11942.

All calls of a group share its weights. The published models have one group, and so one block, that is
called twelve times or more.
"""

from __future__ import annotations

from keras_peft.bases._shared import TRANSFORMER, single_text_encoder

MODEL_TYPE = "albert"
BACKBONE = "AlbertBackbone"
ROLES = {
    **TRANSFORMER,
    r"group_(?P<block>\d+)_inner_layer_\d+": "block",
    r"logits": "head",
}
encoder = single_text_encoder
