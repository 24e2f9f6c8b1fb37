"""Convolution on CPUs: products with patches packed on the fly, or direct loops."""
