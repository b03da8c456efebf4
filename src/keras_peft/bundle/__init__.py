"""The bundle: one folder from which an adapter can be used with no code.

    bundle.json            what it is, of what base, with which files
    adapter.safetensors    the trained tensors only, head included, keyed by site path
    tokenizer.json         the base's tokenizer
    report.json            how the training went and how good the result is
    report.html            the same, to look at
    README.md              the model card
    run.toml               the flags that repeat the training

It is whole or absent, and reading is strict. JSON and safetensors only: nothing
in a bundle is executed or used as an import path.

Reading one imports no Keras; the files of this folder:

    content.py     what a bundle is
    reading.py     a folder to a bundle whose files are checked
    attaching.py   a bundle and its base to a model that answers
    writing.py     what was trained to a bundle
    verifying.py   whether a bundle answers as what was trained does
    report.py      the report as a page
    card.py        the model card
"""

from keras_peft.bundle.attaching import load_model
from keras_peft.bundle.content import CARD, CONTENT, FILES, FORMAT, Bundle, describe_placements
from keras_peft.bundle.reading import read
from keras_peft.bundle.writing import BundleContents, refuse_existing, seal, write

__all__ = [
    "CARD",
    "CONTENT",
    "FILES",
    "FORMAT",
    "Bundle",
    "BundleContents",
    "describe_placements",
    "load_model",
    "read",
    "refuse_existing",
    "seal",
    "write",
]
