"""Exports of bundles to other runtimes, one module per format; see `forms.py`.

    _writing.py     steps that all formats share
    _verifying.py   compares what an export returns with the bundle
    _texts.py       the texts to compare on
    _copying.py     copies and changes a model in Keras for an export
    _tracing.py     traces a model with TensorFlow

An export has a file keras_peft.json with its task, labels and settings (`bundle/export.py`), so that
`keras_peft.load` reads an ONNX graph like a bundle. Other programs run the other formats.
"""
