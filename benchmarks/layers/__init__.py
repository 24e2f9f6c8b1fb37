"""The functions of `gm.nn` that the models use, in the words of each peer.

A model is written once, as a user of Graphmill would; a peer's module here stands for `gm.nn`.
Images are [batch, channels, height, width], heads [batch, heads, seq, dim].
"""
