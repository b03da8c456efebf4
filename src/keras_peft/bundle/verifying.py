"""Verifies that a written bundle gives the same outputs as the trained model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from keras_peft import sources
from keras_peft.bundle.attaching import load_model
from keras_peft.bundle.content import Bundle
from keras_peft.errors import BundleError, KerasPeftError

if TYPE_CHECKING:
    from keras_peft.inputs.input import Text

# The same float32 arithmetic in different batches differs by rounding only.
TOLERANCE = 1e-4


def verify(staged: Bundle, texts: Sequence[Text], outputs: Any) -> dict[str, Any]:
    """Loads a bundle into a fresh base and compares its logits with those of the trained model.

    Args:
        staged: The bundle.
        texts: Texts to compare on.
        outputs: The trained model's outputs for these texts.

    Returns:
        The measured difference, for `verification` in bundle.json.

    Raises:
        BundleError: If the bundle cannot be loaded, or its logits differ.
    """
    from keras_peft.runtime.inference import Inference
    from keras_peft.runtime.outputs import compute_outputs, difference

    try:
        fresh = load_model(staged, sources.load(staged.base_name))
    except KerasPeftError as error:
        raise BundleError(
            f"The bundle was not written, because it cannot be loaded again: {error}"
        ) from error
    tokens = staged.encoder()(texts)
    answers = compute_outputs(Inference(fresh, tokens.signature), tokens)
    largest = difference(answers, outputs)
    if not largest <= TOLERANCE:
        raise BundleError(
            f"The bundle was not written: when loaded again, its logits differ by {largest:.2e}, more "
            f"than {TOLERANCE:.0e}."
        )
    return {"reloaded": {"texts": len(texts), "max_abs_logit_difference": largest}}
