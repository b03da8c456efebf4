"""Comparisons of methods over several data sets."""
