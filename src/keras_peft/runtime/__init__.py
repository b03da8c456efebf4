"""Encoded rows in, outputs out."""
