"""ONNX graphs of encoders with adapters and heads, written without Keras and without a converter.

The graphs use standard operators of opset 17, so that any runtime can read them; those with 8-bit weights also use
one operator of ONNX Runtime.

    classifier.py   the graph of one bundle: encoder, adapter, pooling and head
    shared.py       a graph with slots for many adapters, chosen for each row
    encoder.py      the encoder: embeddings and transformer blocks
    acting.py       resolves an adapter into changed weights and effects
    effects.py      writes the effects of methods that cannot be merged
    slots.py        the same for many adapters, whose tensors are inputs of the graph
    products/       how matrices are stored and multiplied, one precision per module
    head.py         pooling and the layers of the head
    names.py        names of the inputs and outputs
    writer.py       nodes, constants and names
"""
