"""Runtime: from encoded rows to outputs."""
