"""Any Keras model: find its layers, intercept their calls, hold what trains.

Knows no method, no task and no text, and imports nothing of keras_peft but the
errors.
"""
