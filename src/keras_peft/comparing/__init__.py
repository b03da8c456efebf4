"""Comparison of fine-tuning methods on the user's own text: statistics, recommendation and page."""
