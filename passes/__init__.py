"""Passes: `Function -> Function` transformations and their runner."""
