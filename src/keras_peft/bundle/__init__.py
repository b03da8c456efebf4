"""Bundles: one folder with everything needed to use an adapter, and no code.

    bundle.json            the adapter's description, its base and the checksums of its files
    adapter.safetensors    the trained tensors only, including the head, keyed by site path
    tokenizer.json         the base's tokenizer
    report.json            the training history and the scores
    report.html            the same, as a page
    README.md              the model card
    run.toml               the flags that repeat the training

A bundle is written completely or not at all, and is validated strictly when it is read.
It holds only data, such as JSON and safetensors: nothing in a bundle is executed or used
as an import path.

Reading a bundle does not import Keras. The modules:

    description.py the description of a classifier in a folder
    content.py     a bundle's files and the content of bundle.json
    schema.py      the types of the fields in the JSON files
    reading.py     reads a folder and checks its files
    export.py      does the same for a bundle that was exported to another runtime
    onnx_file.py   checks an ONNX file before it is opened
    describing.py  reads either of them
    identity.py    checks that a base is the one that a bundle was trained on
    fitting.py     checks that a base can read a bundle's texts and tokens
    attaching.py   attaches a bundle's adapter to its base
    graph.py       writes both as an ONNX graph, without Keras
    writing.py     writes a bundle
    verifying.py   compares a written bundle with the trained model
    report.py      renders the report as a page
    card.py        renders the model card
"""

from keras_peft.bundle.attaching import load_model
from keras_peft.bundle.content import CARD, CONTENT, FILES, FORMAT, Bundle, describe_placements
from keras_peft.bundle.describing import describe
from keras_peft.bundle.graph import graph_of
from keras_peft.bundle.reading import read
from keras_peft.bundle.writing import BundleContents, refuse_existing, seal, write

__all__ = [
    "CARD",
    "CONTENT",
    "FILES",
    "FORMAT",
    "Bundle",
    "BundleContents",
    "describe",
    "describe_placements",
    "graph_of",
    "load_model",
    "read",
    "refuse_existing",
    "seal",
    "write",
]
