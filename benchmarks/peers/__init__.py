"""The same task in other libraries, as their users would write it: one program for each library."""
