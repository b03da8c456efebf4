"""What other tools' users write for the same task, as one program for each tool."""
