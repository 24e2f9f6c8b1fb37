"""Trains the classifier of this example and writes weights.npz. Plain NumPy, one fixed seed.

Data: scikit-learn's `load_digits`, 1,797 real handwritten digits of 8 × 8 grey levels (0 to 16)
from the UCI "Optical Recognition of Handwritten Digits" set. Of the images, shuffled, 1,437 train
and 360 are held out. Network: 64 → 64 → 10, ReLU, softmax. Training: 60 epochs of Adam
(Kingma & Ba 2015) on the cross entropy, batches of 32, the rate falling linearly to zero.
"""

from pathlib import Path
from typing import Any

import numpy as np

SEED = 20260
HIDDEN = 64
EPOCHS = 60
BATCH = 32
RATE = 2e-3
WEIGHTS = Path(__file__).with_name("weights.npz")

Array = np.ndarray[Any, np.dtype[Any]]


def load() -> tuple[Array, Array, Array, Array]:
    """(training images, training labels, held-out images, held-out labels); images f32[n, 64]."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.default_rng(SEED).permutation(len(digits.data))
    images = (digits.data[order] / 16).astype(np.float32)
    labels = digits.target[order].astype(np.int64)
    split = len(images) * 4 // 5
    return images[:split], labels[:split], images[split:], labels[split:]


def scores(x: Array, w1: Array, b1: Array, w2: Array, b2: Array) -> Array:
    return np.maximum(x @ w1 + b1, 0) @ w2 + b2


def gradients(x: Array, y: Array, weights: list[Array]) -> list[Array]:
    """The gradient of the mean cross entropy in each weight."""
    w1, b1, w2, b2 = weights
    h = np.maximum(x @ w1 + b1, 0)
    s = h @ w2 + b2
    p = np.exp(s - s.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(y)), y] -= 1
    ds = p / len(y)
    dh = (ds @ w2.T) * (h > 0)
    return [x.T @ dh, dh.sum(axis=0), h.T @ ds, ds.sum(axis=0)]


def train(images: Array, labels: Array) -> list[Array]:
    rng = np.random.default_rng(SEED)
    weights = [
        rng.normal(0, (2 / 64) ** 0.5, (64, HIDDEN)),
        np.zeros(HIDDEN),
        rng.normal(0, (1 / HIDDEN) ** 0.5, (HIDDEN, 10)),
        np.zeros(10),
    ]
    mean = [np.zeros_like(w) for w in weights]
    square = [np.zeros_like(w) for w in weights]
    step = 0
    for epoch in range(EPOCHS):
        rate = RATE * (1 - epoch / EPOCHS)
        order = rng.permutation(len(images))
        for start in range(0, len(images), BATCH):
            batch = order[start : start + BATCH]
            step += 1
            for i, g in enumerate(gradients(images[batch], labels[batch], weights)):
                mean[i] = 0.9 * mean[i] + 0.1 * g
                square[i] = 0.999 * square[i] + 0.001 * g * g
                momentum = mean[i] / (1 - 0.9**step)
                scale = np.sqrt(square[i] / (1 - 0.999**step)) + 1e-8
                weights[i] = weights[i] - rate * momentum / scale
    return [w.astype(np.float32) for w in weights]


def main() -> None:
    images, labels, held_images, held_labels = load()
    weights = train(images, labels)
    for name, x, y in (("training", images, labels), ("held out", held_images, held_labels)):
        right = int((scores(x, *weights).argmax(axis=1) == y).sum())
        print(f"{name}: {right} of {len(y)} right ({right / len(y):.1%})")
    w1, b1, w2, b2 = weights
    np.savez(WEIGHTS, w1=w1, b1=b1, w2=w2, b2=b2)
    print(f"wrote {WEIGHTS.name}, {WEIGHTS.stat().st_size} bytes")


if __name__ == "__main__":
    main()
