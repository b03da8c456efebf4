"""GPT-2: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".

https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
"""

from __future__ import annotations

from keras_peft.bases._shared import TRANSFORMER

MODEL_TYPE = "gpt2"
BACKBONE = "GPT2Backbone"
ROLES = TRANSFORMER
