"""Engines that run the rows, one runtime per module."""
