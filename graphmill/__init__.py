"""Graphmill: a graph compiler for NumPy-style functions."""

import os.path

# In a checkout the stages stand beside this folder; installed, they stand inside it.
if not os.path.isdir(os.path.join(__path__[0], "ir")):
    __path__.append(os.path.dirname(__path__[0]))
