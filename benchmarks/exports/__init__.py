"""Compares exports with Keras and PyTorch: time to the first answer, speed, memory, and equality of the answers."""
