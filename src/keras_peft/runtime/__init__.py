"""Runs models on encoded rows and returns their outputs."""
