"""What a row can be, and how it becomes what a base reads."""
