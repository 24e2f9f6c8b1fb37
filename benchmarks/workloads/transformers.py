"""BERT-base, and GPT-2-small reading a prompt or writing one token with a cache."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.workload import Arrays, Workload, normal

LAYERS, HEADS, WIDTH, INNER = 12, 12, 768, 3072
SEQUENCE, CACHED = 128, 256
BERT_WORDS, GPT_WORDS, POSITIONS = 30_522, 50_257, 1024
MATRICES = LAYERS * (4 * WIDTH * WIDTH + 2 * WIDTH * INNER)  # elements of a stack's matrices
Weights = Iterator[Any]


def heads(x: Any) -> Any:
    """[batch, seq, width] as [batch, heads, seq, dim]."""
    batch, length, width = x.shape
    return x.reshape(batch, length, HEADS, width // HEADS).swapaxes(1, 2)


def merged(x: Any) -> Any:
    batch, count, length, dim = x.shape
    return x.swapaxes(1, 2).reshape(batch, length, count * dim)


def bert_layer(nn: Any, x: Any, w: Weights) -> Any:
    """Norms after the sums, the exact GELU (Devlin et al. 2018)."""
    q, k, v = (heads(nn.linear(x, next(w), next(w))) for _ in range(3))
    attended = nn.linear(merged(nn.attention(q, k, v)), next(w), next(w))
    x = nn.layer_norm(x + attended, next(w), next(w))
    inner = nn.gelu(nn.linear(x, next(w), next(w)))
    return nn.layer_norm(x + nn.linear(inner, next(w), next(w)), next(w), next(w))


def bert(xp: Any, nn: Any, words: Any, *weights: Any) -> Any:
    """The last hidden state of a sequence without padding."""
    w = iter(weights)
    x = nn.embedding(words, next(w)) + next(w)[:SEQUENCE]
    x = nn.layer_norm(x, next(w), next(w))
    for _ in range(LAYERS):
        x = bert_layer(nn, x, w)
    return x


def gpt2_layer(xp: Any, nn: Any, x: Any, w: Weights, past: Any = None) -> Any:
    """Norms before the products, the tanh GELU (Radford et al. 2019)."""
    joined = nn.linear(nn.layer_norm(x, next(w), next(w)), next(w), next(w))
    q, k, v = (heads(joined[..., i * WIDTH : (i + 1) * WIDTH]) for i in range(3))
    if past is not None:
        k, v = (xp.concatenate([old, new], 2) for old, new in zip(past, (k, v), strict=True))
    x = x + nn.linear(merged(nn.attention(q, k, v, causal=True)), next(w), next(w))
    inner = nn.linear(nn.layer_norm(x, next(w), next(w)), next(w), next(w))
    return x + nn.linear(nn.gelu(inner, approximate=True), next(w), next(w))


def gpt2(xp: Any, nn: Any, words: Any, past: Any, weights: Any) -> Any:
    """The next word's logits; the output matrix is the table of words."""
    w = iter(weights)
    table, positions = next(w), next(w)
    start = 0 if past is None else CACHED
    x = nn.embedding(words, table) + positions[start : start + words.shape[1]]
    for layer in range(LAYERS):
        pair = None if past is None else [cache[layer] for cache in past]
        x = gpt2_layer(xp, nn, x, w, pair)
    return nn.linear(nn.layer_norm(x, next(w), next(w))[:, -1], table.T)


def gpt2_prompt(xp: Any, nn: Any, words: Any, *weights: Any) -> Any:
    return gpt2(xp, nn, words, None, weights)


def gpt2_token(xp: Any, nn: Any, words: Any, keys: Any, values: Any, *weights: Any) -> Any:
    return gpt2(xp, nn, words, (keys, values), weights)


def dense(rng: np.random.Generator, inputs: int, outputs: int) -> Arrays:
    return normal(rng, inputs, outputs) * np.float32(inputs**-0.5), normal(rng, outputs) / 8


def norm(rng: np.random.Generator) -> Arrays:
    return 1 + normal(rng, WIDTH) / 8, normal(rng, WIDTH) / 8


def bert_weights(rng: np.random.Generator) -> Arrays:
    arrays = [normal(rng, BERT_WORDS, WIDTH), normal(rng, 512, WIDTH), *norm(rng)]
    for _ in range(LAYERS):
        for _ in range(4):
            arrays += dense(rng, WIDTH, WIDTH)
        arrays += norm(rng)
        arrays += dense(rng, WIDTH, INNER) + dense(rng, INNER, WIDTH)
        arrays += norm(rng)
    return tuple(arrays)


def gpt2_weights(rng: np.random.Generator) -> Arrays:
    table = normal(rng, GPT_WORDS, WIDTH) * np.float32(WIDTH**-0.5)
    arrays = [table, normal(rng, POSITIONS, WIDTH) / 8]
    for _ in range(LAYERS):
        arrays += norm(rng) + dense(rng, WIDTH, 3 * WIDTH) + dense(rng, WIDTH, WIDTH)
        arrays += norm(rng) + dense(rng, WIDTH, INNER) + dense(rng, INNER, WIDTH)
    return *arrays, *norm(rng)


def ids(rng: np.random.Generator, words: int, count: int) -> Any:
    return rng.integers(0, words, (1, count))


def cache(rng: np.random.Generator) -> Any:
    return normal(rng, LAYERS, 1, HEADS, CACHED, WIDTH // HEADS)


TAGS = frozenset({"model"})
WORKLOADS = (
    Workload(
        "bert",
        f"BERT-base, {SEQUENCE} words",
        lambda rng: {"words": ids(rng, BERT_WORDS, SEQUENCE)},
        {"layers": bert},
        constants=bert_weights,
        flops=2.0 * SEQUENCE * MATRICES + 4.0 * LAYERS * SEQUENCE * SEQUENCE * WIDTH,
        bytes=4.0 * (MATRICES + 3 * SEQUENCE * WIDTH),
        tolerance=1e-4,
        tags=TAGS | {"cold"},
    ),
    Workload(
        "gpt2_prompt",
        f"GPT-2-small, a prompt of {SEQUENCE} words",
        lambda rng: {"words": ids(rng, GPT_WORDS, SEQUENCE)},
        {"layers": gpt2_prompt},
        constants=gpt2_weights,
        flops=2.0 * SEQUENCE * MATRICES
        + 4.0 * LAYERS * SEQUENCE * SEQUENCE * WIDTH
        + 2.0 * GPT_WORDS * WIDTH,
        bytes=4.0 * (MATRICES + GPT_WORDS * WIDTH),
        tolerance=1e-4,
        tags=TAGS,
    ),
    Workload(
        "gpt2_token",
        f"GPT-2-small, one word after {CACHED} cached",
        lambda rng: {"words": ids(rng, GPT_WORDS, 1), "keys": cache(rng), "values": cache(rng)},
        {"layers": gpt2_token},
        constants=gpt2_weights,
        flops=2.0 * (MATRICES + GPT_WORDS * WIDTH) + 4.0 * LAYERS * CACHED * WIDTH,
        bytes=4.0 * (MATRICES + GPT_WORDS * WIDTH + 2 * LAYERS * CACHED * WIDTH),
        tolerance=1e-4,
        tags=TAGS | {"memory"},
    ),
)
