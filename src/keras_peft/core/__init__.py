"""Core: find the layers of any Keras model, intercept their calls, store the adapters' weights.

It knows no method, task or text, and imports nothing from keras_peft except the errors.
"""
