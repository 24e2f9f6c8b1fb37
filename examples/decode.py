"""Writing words with a transformer: a prompt is read once, then each word costs one step.

The model has GPT-2's form (Radford et al. 2019) and random weights. Keys and values of all words so
far stay in two caches that are donated: a step writes its word's in place and copies nothing. One
compile serves every position, and attention reads only the part of the caches that is filled.
The program compares what it wrote with a model without caches, that reads everything each time.
"""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

import graphmill as gm
from graphmill import nn

LAYERS, HEADS, WIDTH, WORDS, LONGEST = 4, 8, 256, 1000, 256
PROMPT, WRITTEN = 16, 64
SHAPES = [(WIDTH, 3 * WIDTH), (WIDTH, WIDTH), (WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH)]


def weights(seed: int) -> Iterator[Any]:
    """The tables of words and positions, then each layer's matrices."""
    rng = np.random.default_rng(seed)
    for inputs, outputs in [(WORDS, WIDTH), (LONGEST, WIDTH), *SHAPES * LAYERS]:
        array = rng.standard_normal((inputs, outputs), np.float32) * np.float32(WIDTH**-0.5)
        array.flags.writeable = False  # Graphmill need not look whether it changed
        yield array


TABLE, POSITIONS, *MATRICES = weights(0)


def normed(x: Any) -> Any:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)


def heads(x: Any) -> Any:
    """[words, width] as [1, heads, words, width of a head]."""
    return x.reshape(1, x.shape[0], HEADS, WIDTH // HEADS).swapaxes(1, 2)


def model(words: Any, at: Any, keys: Any, values: Any) -> Any:
    """The word after i64[n] that begin at position `at`; their keys and values are stored there."""
    count = words.shape[0]
    x = nn.embedding(words, TABLE) + nn.embedding(at + np.arange(count), POSITIONS)
    sees = np.arange(LONGEST) <= (at + np.arange(count))[:, None]
    for layer in range(LAYERS):
        joined, out, up, down = MATRICES[4 * layer : 4 * layer + 4]
        q, k, v = (heads(part) for part in np.split(normed(x) @ joined, 3, axis=1))
        for cache, new in ((keys, k), (values, v)):
            cache[layer, at + np.arange(count)] = new[0].swapaxes(0, 1)
        past = [cache[layer].swapaxes(0, 1)[None] for cache in (keys, values)]
        attended = nn.attention(q, *past, mask=sees)
        x = x + attended[0].swapaxes(0, 1).reshape(count, WIDTH) @ out
        x = x + nn.gelu(normed(x) @ up, approximate=True) @ down
    return np.argmax(normed(x[-1]) @ TABLE.T)


@gm.jit(donate=("keys", "values"))
def step(words: Any, at: Any, keys: Any, values: Any) -> Any:
    return model(words, at, keys, values), keys, values


@gm.jit(dynamic={"words": ("n",)})
def whole(words: Any) -> Any:
    """The next word, all words read again."""
    return model(words, 0, *caches(np.zeros))


def caches(zeros: Any) -> tuple[Any, Any]:
    shape = (LAYERS, LONGEST, HEADS, WIDTH // HEADS)
    return zeros(shape, np.float32), zeros(shape, np.float32)


def write(prompt: Any, count: int) -> list[int]:
    """Read the prompt, then `count` words, each the likeliest after those before it."""
    word, keys, values = step(prompt, 0, *caches(np.zeros))
    written = [int(word)]
    for at in range(len(prompt), len(prompt) + count - 1):
        word, keys, values = step(word[None], at, keys, values)
        written.append(int(word))
    return written


def write_slowly(prompt: Any, count: int) -> list[int]:
    words = prompt
    for _ in range(count):
        words = np.append(words, whole(words))
    return [int(word) for word in words[len(prompt) :]]


def main() -> None:
    prompt = np.random.default_rng(1).integers(0, WORDS, PROMPT)
    for writer in (write, write_slowly):
        writer(prompt, 2)  # compiles
        start = time.perf_counter()
        written = writer(prompt, WRITTEN)
        seconds = time.perf_counter() - start
        print(f"{writer.__name__:12} {WRITTEN / seconds:6.0f} words a second: {written[:8]} …")
    same = write(prompt, WRITTEN) == write_slowly(prompt, WRITTEN)
    print(f"with and without caches: {'the same words' if same else 'other words'}")


if __name__ == "__main__":
    main()
