"""Training: from labelled examples to a trained adapter."""
