"""Names of the inputs and outputs of the graphs."""

from __future__ import annotations

IDS, MASK, LOGITS = "input_ids", "attention_mask", "logits"
"""Token ids, their mask and the head's outputs, as in Hugging Face's exports."""
ADAPTER, FEATURES, PLACES, VECTORS = "adapter", "features", "places", "vectors"
"""The slot of each row, the outputs of the lower blocks, the text of each row, and what the heads read."""
TOKEN_VECTORS, POOLING = "token_vectors", "pooling"
"""The vectors of all tokens, and the number of the pooling of each slot."""
