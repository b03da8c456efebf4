"""Examples to a trained adapter."""
