"""What rows run on: one file, one runtime."""
