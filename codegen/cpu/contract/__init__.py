"""Contraction on CPUs: packed, register-tiled matrix products and what they are built from.

After Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008), and BLIS.
"""
