"""One record per op, one file per family."""
