"""ViT: Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929."""

from __future__ import annotations

MODEL_TYPE = "vit"
BACKBONE = "ViTBackbone"
ROLES = {
    r"transformer_block_\d+": "block",
    r"mlp/dense_1": "ffn.up",
    r"mlp/dense_2": "ffn.down",
    r"pre_logits": "head",
    r"predictions": "head",
}
