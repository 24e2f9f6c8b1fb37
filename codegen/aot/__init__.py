"""Ahead of time: shared objects with a C header."""
