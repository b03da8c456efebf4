"""Exports of bundles to runtimes that need no Keras, one module per format; see `forms.py`.

    _writing.py     steps that all formats share
    _verifying.py   compares what an export returns with the bundle
    _texts.py       the texts to compare on

An export has a file keras_peft.json with its task, labels and settings (`bundle/export.py`), so that
`keras_peft.load` reads it like a bundle.
"""
