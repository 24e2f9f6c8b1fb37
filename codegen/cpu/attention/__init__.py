"""Attention on CPUs: softmax(q kᵀ) v over blocks of keys that stay in the caches.

Online softmax as in Dao, "FlashAttention-2: Faster Attention with Better Parallelism and Work
Partitioning" (2023), after Milakov and Gimelshein, "Online normalizer calculation for softmax"
(2018). The scores are computed transposed, keys × queries: a register tile's lanes are queries, so
that the maximum, the exponential, the sum and the rescaling need no work across lanes, keys and
values are read where they lie (`contract.microkernel` broadcasts them), and only the queries are
packed.
"""
