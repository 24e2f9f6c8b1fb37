"""Graphmill: a graph compiler for NumPy-style functions."""
