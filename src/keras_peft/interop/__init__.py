"""What other libraries write and read: one folder or file, one format."""
