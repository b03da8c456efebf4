"""Finds the layers of any Keras model, intercepts their calls and stores the adapters' weights.

It knows no method, task or text, and imports nothing from keras_peft except the errors.
"""
