"""What a billion rows and a hundred thousand adapters would cost."""
