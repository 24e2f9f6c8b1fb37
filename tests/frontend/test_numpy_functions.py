"""A table of NumPy expressions, run by NumPy and as traced functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphmill.frontend.trace import trace
from tests.frontend.comparing import agree, run

RNG = np.random.default_rng(7)

# The names that the expressions use.
VALUES: dict[str, Any] = {
    "a": RNG.normal(size=(3, 4)),
    "b": RNG.normal(size=(3, 4)).astype("f4"),
    "c": RNG.normal(size=(2, 3, 4)),
    "d": RNG.normal(size=(2, 4, 5)),
    "m": RNG.normal(size=(4, 4)),
    "v": RNG.normal(size=4),
    "w": RNG.normal(size=6),
    "i": RNG.integers(-5, 6, (3, 4)),
    "j": RNG.integers(0, 3, (3, 4)),
    "u": RNG.integers(0, 200, (3, 4)).astype("u1"),
    "h": RNG.integers(-5, 6, (3, 4)).astype("i2"),
    "t": RNG.integers(0, 2, (3, 4)).astype(bool),
    "z": RNG.normal(size=(3, 4)) + 1j * RNG.normal(size=(3, 4)),
    "n": np.array([[1.0, np.nan, 3.0], [np.inf, -np.inf, np.nan]]),
    "s": np.array(2.5),
    "e": np.zeros((0, 4)),
    "q": np.sort(RNG.normal(size=9)),
    "f": RNG.normal(size=(3, 4)).astype("f2"),
}

EXACT = """
np.max(a) | np.min(a, axis=0) | np.max(a, axis=(0, 1), keepdims=True) | a.max(1) | a.min(axis=-1)
np.sum(i) | np.sum(u) | np.sum(h, axis=0) | np.sum(t) | np.sum(t, axis=1) | np.prod(j) | i.sum(0)
np.sum(i, dtype=np.int32) | np.sum(i, axis=(), keepdims=True) | np.sum(i, initial=7)
np.sum(i, where=t) | np.sum(i, axis=1, where=t, keepdims=True) | np.prod(j, axis=0, where=t)
np.max(a, axis=0, initial=0.5) | np.max(a, where=t, initial=-9.0) | np.max(u) | np.min(h, 1)
np.amax(a, 1) | np.amin(a, axis=0, keepdims=True)
np.max(t, axis=0) | np.all(t) | np.any(t, axis=0) | np.all(a > -9, axis=1, keepdims=True)
np.all(i) | np.any(a) | t.all() | t.any(0) | np.count_nonzero(i) | np.count_nonzero(i, axis=1)
np.argmax(a) | np.argmin(a, axis=0) | a.argmax(1) | np.argmax(i, axis=-1, keepdims=True)
np.argmin(n) | np.argmax(t) | np.ptp(i, axis=0) | np.ptp(a) | np.cumsum(i) | np.cumsum(u, axis=0)
np.cumsum(i, axis=1, dtype=np.int16) | np.cumprod(j, axis=0) | i.cumsum(1) | np.cumsum(t, axis=1)
np.cumulative_sum(i, axis=0) | np.cumulative_sum(v * 0 + 1, include_initial=True)
np.nansum(n * 0 + 1) | np.nanmax(n, axis=0) | np.nanmin(n, axis=1) | np.nanprod(n, axis=0)
np.nanargmax(n, axis=1) | np.nancumsum(n, axis=0) | np.sum(e) | np.sum(e, axis=0) | np.all(e)
np.reshape(a, (4, 3)) | a.reshape(2, -1) | a.reshape((6, 2)) | a.reshape(-1) | np.ravel(a)
a.reshape(4, 3, order="F") | np.ravel(a, order="F") | a.flatten() | e.reshape(4, 0) | s.reshape(1)
np.transpose(a) | a.T | c.transpose(2, 0, 1) | c.transpose((1, 0, 2)) | np.transpose(c, (0, 2, 1))
c.mT | np.matrix_transpose(c) | np.swapaxes(c, 0, 2) | c.swapaxes(1, -1) | np.moveaxis(c, 0, -1)
np.moveaxis(c, (0, 1), (2, 0)) | np.rollaxis(c, 2) | np.rollaxis(c, 0, 3) | np.expand_dims(a, 1)
np.expand_dims(a, (0, -1)) | np.squeeze(a[None, :, None]) | np.squeeze(a[None], 0)
a[None].squeeze() | np.atleast_1d(s) | np.atleast_2d(v) | np.atleast_3d(a) | np.atleast_3d(v)
np.atleast_2d(s, v) | np.broadcast_to(v, (3, 4)) | np.broadcast_arrays(v, a)
np.broadcast_to(s, (2, 2)) | np.copy(a) | np.concatenate([a, b]) | np.concatenate((a, i), axis=1)
np.concatenate([a, b], axis=None) | np.concatenate([i, t]) | np.concatenate([h, u])
np.stack([b[0, 0], 2]) | np.hstack([b[0], 1.5]) | np.append(b, 3) | np.block([[b[0, 0], 1.0]])
np.concat([a, a], axis=-1) | np.stack([a, b]) | np.stack([a, b], axis=1)
np.stack((a, i), axis=-1) | np.vstack([v, v]) | np.hstack([v, w]) | np.hstack([a, b])
np.dstack([a, b]) | np.column_stack([v, m]) | np.append(v, w) | np.append(a, b, axis=0)
np.block([[a, b], [b, a]]) | np.split(a, 2, axis=1) | np.split(a, [1], 0) | np.array_split(v, 3)
np.array_split(a, 2) | np.vsplit(a, 3) | np.hsplit(a, 2) | np.hsplit(v, [1, 3]) | np.unstack(c)
np.unstack(c, axis=1) | list(a) | np.dsplit(c, 2) | np.split(w, [2, 9]) | np.repeat(a, 2)
np.repeat(a, 3, axis=1) | np.repeat(v, [1, 0, 2, 3]) | np.repeat(a, [2], axis=0) | np.tile(v, 2)
np.tile(a, (2, 1)) | np.tile(v, (2, 2)) | np.tile(a, (2, 1, 3)) | a.repeat(2, 0) | np.flip(a)
np.flip(a, 0) | np.flip(c, (0, 2)) | np.flipud(a) | np.fliplr(a) | np.rot90(a) | np.rot90(a, 2)
np.rot90(a, -1) | np.rot90(c, 1, (1, 2)) | np.roll(a, 1) | np.roll(a, 5, axis=1)
np.roll(a, -1, 0) | np.roll(a, (1, 2), axis=(0, 1)) | np.roll(v, 0) | np.roll(a, 1, axis=(0, 1))
np.pad(v, 2) | np.pad(a, ((1, 0), (0, 2))) | np.pad(a, 1, constant_values=5) | np.pad(v, (1, 3))
np.pad(a, ((1, 1), (2, 0)), constant_values=((1, 2), (3, 4))) | np.pad(v, 2, mode="edge")
np.pad(a, 2, mode="reflect") | np.pad(a, 1, mode="symmetric") | np.pad(v, 3, mode="wrap")
np.pad(a, 1, mode="maximum") | np.pad(a, ((0, 1), (1, 0)), mode="minimum") | np.pad(i, 1)
np.delete(v, 1) | np.delete(a, [0, 2], axis=1) | np.insert(v, 2, 9.0)
np.insert(a, 1, 5.0, axis=1) | np.diagonal(a) | np.diagonal(a, 1) | np.diagonal(c, -1, 1, 2)
np.diag(v) | np.diag(v, 1) | np.diag(m) | np.diag(m, -1) | np.diagflat(a) | np.trace(i)
np.trace(i, 1) | np.trace(h[:3, :3]) | i.trace() | np.tril(a) | np.triu(a) | np.tril(c, 1)
np.triu(a, -1) | np.tril(v) | np.triu(i, 2) | np.where(t, a, b) | np.where(t, i, 0)
np.where(a > 0, a, -a) | np.where(t, u, 300.5) | np.where(v > 0, a, v) | np.where(t, 1, 2.0)
np.select([a > 1, a > 0], [a, -a], 7) | np.choose(j, [a, b, i]) | np.clip(a, -0.5, 0.5)
a.clip(0) | np.clip(i, None, 2) | np.clip(u, 10, 100) | np.clip(a, v, None) | a.clip(max=0.3)
np.clip(a, min=-1, max=1) | np.take(a, [0, 2]) | np.take(a, 1) | np.take(a, j[0], axis=1)
np.take(a, np.array([[0, 1], [2, 0]]), axis=0) | a.take([1, -1], axis=1)
np.take(a, [5, -7], mode="wrap", axis=0) | np.take(a, [0, 9], mode="clip", axis=1)
np.take_along_axis(a, np.argsort(a, axis=1), 1) | np.take_along_axis(a, j[:1], 0)
np.take_along_axis(a, np.argmax(a, axis=1, keepdims=True), axis=1) | np.sort(a)
np.sort(a, axis=0) | np.sort(a, axis=None) | np.argsort(a, axis=0) | a.argsort()
np.sort(i, axis=1) | np.sort(n, axis=0) | np.sort(t) | np.argsort(i, kind="stable")
np.lexsort((v, v > 0)) | np.partition(w, 5)[5] | np.searchsorted(q, w)
np.searchsorted(q, w, side="right") | np.searchsorted(q, q) | q.searchsorted(a)
np.digitize(w, q) | np.digitize(w, np.array([1.0, 0.0, -1.0])) | np.isin(i, [1, 2])
np.isin(i, j, invert=True) | np.zeros_like(a) | np.ones_like(i) | np.full_like(a, 7)
np.full_like(u, 3, dtype=float) | np.zeros_like(a, shape=(2,)) | np.zeros_like(a, dtype=bool)
np.meshgrid(v, w) | np.meshgrid(v, w, indexing="ij") | np.meshgrid(v, w, sparse=True)
np.vander(v, 3) | np.vander(i[0], increasing=True) | np.isclose(a, b)
np.allclose(a, b, atol=1e-6) | np.isclose(n, n, equal_nan=True) | np.isclose(i, j)
np.array_equal(a, a) | np.array_equal(a, v) | np.array_equiv(a, v)
np.array_equal(n, n, equal_nan=True) | np.nan_to_num(n)
np.nan_to_num(n, nan=1.0, posinf=2.0, neginf=3.0) | np.nan_to_num(i) | np.isposinf(n)
np.isneginf(n) | np.round(a, 2) | np.round(a) | a.round(1) | np.around(i) | np.fix(a * 3)
np.round(a * 100, -1) | np.real(z) | z.real | z.imag | np.imag(a) | np.real(a) | np.conj(z)
z.conj() | np.iscomplex(z) | np.isreal(z) | np.diff(a) | np.diff(a, axis=0) | np.diff(w, n=2)
np.diff(t) | np.diff(w, prepend=0, append=9) | np.ediff1d(w) | np.ediff1d(w, to_begin=0.0)
np.gradient(w) | np.gradient(a, axis=0) | np.gradient(a) | np.outer(i[0], j[1])
np.kron(i[:2, :2], j[:2]) | np.shape(a) | np.ndim(a) | np.size(a, 1) | np.iscomplexobj(z)
np.isrealobj(z) | a.astype(np.float32) | a.astype(int) | i.astype("f2") | t.astype("i4")
a.astype(bool) | u.astype("c8") | a.copy() | a.fill(3.0) | np.positive(a)
np.linalg.norm(i, np.inf) | np.linalg.norm(i, 1) | np.linalg.norm(w, np.inf)
np.linalg.norm(w, -np.inf) | np.linalg.norm(w, 0) | np.median(a) | np.median(a, axis=0)
np.median(w) | np.median(i, axis=1, keepdims=True) | np.average(i) | np.linspace(s, 9.0, 5)[0]
a.shape | a.ndim | a.size | len(a) | np.einsum("ii", i[:, :3]) | np.einsum("ij->ji", i)
np.einsum("ij,ij->ij", i, j) | np.dot(i, j.T) | i @ j.T | np.tensordot(i, j) | np.inner(i, j)
np.vdot(i, j) | np.einsum("ij,kj->ik", i, j) | np.linalg.matrix_power(j[:, :3], 3)
np.cross(i[:, :3], j[:, :3]) | np.polyval([1, 2, 3], i) | np.convolve(i[0], [1, 2])
np.correlate(i[0], [1, 2]) | np.convolve(i[0], [1, 0, 2], "same")
np.convolve([1, 2], i[0], "valid") | np.correlate(i[0], [1, 2, 1], "full") | np.trapezoid(i)
np.correlate([1, 2], i[0], "full") | np.correlate([3, 2], i[0], "same")
"""

CLOSE = """
np.sum(a) | np.sum(a, axis=1) | np.sum(b) | np.sum(f, axis=0) | np.sum(z, axis=0)
a.sum(keepdims=True) | np.mean(a) | np.mean(i) | np.mean(b, axis=0) | np.mean(f) | np.mean(t)
a.mean(1) | np.mean(z) | np.mean(a, axis=1, where=t) | np.mean(a, dtype=np.float32)
np.mean(u, axis=0, keepdims=True) | np.var(a) | np.var(b, axis=1) | np.var(a, ddof=1) | np.var(i)
np.var(f) | np.var(z) | a.var(0) | np.std(a) | np.std(b, axis=0, keepdims=True)
np.std(a, axis=1, ddof=1) | a.std() | np.var(a, correction=1) | np.var(a, where=t)
np.nanmean(n * 0 + n, axis=0) | np.nanvar(a) | np.nanstd(a, axis=1) | np.prod(a)
np.prod(b, axis=0) | np.cumsum(a, axis=1) | np.cumprod(a) | np.cumprod(b, axis=0)
np.average(a, weights=b) | np.average(a, axis=1, weights=v) | np.average(a, axis=0)
np.linalg.norm(a) | np.average(a, axis=0, weights=i[:, 0] + 9, returned=True)
np.linalg.norm(a, axis=1) | np.linalg.norm(w, 3) | np.linalg.norm(a, 1)
np.linalg.norm(a, axis=(0, 1), keepdims=True) | np.linalg.norm(z)
np.linalg.vector_norm(a, axis=0) | np.linalg.matrix_norm(c) | np.linalg.norm(a, "fro") | a @ m
m @ v | v @ m | v @ v | c @ d | a @ d | c @ m | v @ d | c @ v | b @ m.astype("f4") | b @ m
np.matmul(a, m) | np.matmul(z, m) | np.dot(a, m) | np.dot(c, d[0]) | np.dot(v, d) | np.dot(a, 3.0)
a.dot(m) | np.inner(a, b) | np.inner(v, v) | np.outer(v, w) | np.vdot(z, z) | np.vecdot(a, b)
np.vecdot(z, z) | np.matvec(m, v) | np.vecmat(v, m) | np.matvec(c, v)
np.linalg.vecdot(a, b, axis=0) | np.vecdot(c, c, axis=1)
np.tensordot(c, d, axes=((0, 2), (0, 1))) | np.tensordot(a, m, 1)
np.tensordot(a, b, 2) | np.kron(a, m) | np.tensordot(v, w, 0) | np.einsum("ij,jk", a, m)
np.einsum("ij,jk->ki", a, m) | np.einsum("ij->", a) | np.einsum("bij,bjk->bik", c, d)
np.einsum("...ij,...jk->...ik", c, d) | np.einsum("ij->i", a)
np.einsum("ij,kj,jl->ikl", a, b, m) | np.einsum("i,j->ij", v, w) | np.einsum("ii->i", m)
np.einsum("ij,ij", a, b) | np.einsum("bij,jk->bki", c, m) | np.einsum("i,i,i->i", v, v, v)
np.einsum("...i->...", c) | np.einsum(a, [0, 1], m, [1, 2], [2, 0]) | np.einsum("ij,j->i", a, v)
np.linalg.multi_dot([a, m, m, v]) | np.linalg.matrix_power(m, 5) | np.linalg.matrix_power(m, 0)
np.linalg.outer(v, w) | np.linalg.trace(m) | np.linalg.matmul(a, m)
np.matmul(i, i.T, dtype=np.float64) | np.matmul(b, b.T, dtype=np.float64)
np.vecdot(i, i, dtype=np.int64) | np.matmul(i.astype("i1"), i.T.astype("i1"), dtype=np.int32)
np.linalg.tensordot(a, m, axes=1) | np.linspace(s, 9.0, 5) | np.linspace(v, 1.0, 3)
np.linspace(s, 3, 4, endpoint=False) | np.linspace(0, v, 3, axis=1) | np.logspace(s, 3.0, 4)
np.geomspace(s, 100.0, 4) | np.angle(z) | np.angle(a, deg=True) | np.sinc(a) | np.trapezoid(w)
np.trapezoid(a, dx=0.5, axis=0) | np.trapezoid(w, np.cumsum(abs(w)))
np.cross(a[:, :3], b[:, 1:]) | np.convolve(w, v) | np.convolve(w, v, "same")
np.convolve(w, v, "valid") | np.correlate(w, v, "full") | np.correlate(w, v)
np.correlate(w, v, "same") | np.correlate(z[0], z[1, :2]) | np.polyval(v, a) | np.quantile(a, 0.3)
np.quantile(a, [0.1, 0.9], axis=0) | np.percentile(w, 75) | np.percentile(a, 25, axis=1)
np.quantile(b, [0.2, 0.4], axis=0) | np.percentile(b, np.float64(30)) | np.percentile(b, 30)
np.quantile(b, np.float32(0.3))
np.cov(b) | np.corrcoef(b) | np.round(i, -1) | np.median(e, axis=0)
np.quantile(b, 0.5, keepdims=True) | np.cov(a) | np.cov(a, rowvar=False) | np.corrcoef(a)
np.cov(w) | np.interp(w, q, q * 2) | np.interp(w, q, q**2, left=-1, right=5.0)
np.interp(s, q, q)
np.exp(a - a.max(1, keepdims=True)) / np.exp(a - a.max(1, keepdims=True)).sum(1, keepdims=True)
0.5 * b * (1 + np.tanh(0.7978846 * (b + 0.044715 * b**3)))
(a - a.mean(-1, keepdims=True)) / np.sqrt(a.var(-1, keepdims=True) + 1e-5)
np.sqrt(((a[:, None] - a[None]) ** 2).sum(-1)) | np.log(np.sum(np.exp(a), axis=0))
np.linalg.norm(a, axis=0, ord=1) | a**1.5 | b**-0.5 | abs(b) ** -1.5 | (a * -0.0) ** -1.5
(a * 0 - np.inf) ** -1.5 | (a * 0 - np.inf) ** -0.5 | (b * -0.0) ** -0.5 | (a * 0 - np.inf) ** 1.5
"""


def cases(text: str) -> list[str]:
    return [
        part.strip() for line in text.splitlines() for part in line.split(" | ") if part.strip()
    ]


def names_in(expression: str) -> list[str]:
    code = compile(expression, "case", "eval")
    return [name for name in code.co_names if name in VALUES]


def function(expression: str) -> tuple[Any, list[Any]]:
    """The expression as a function of the arrays that it names, and those arrays."""
    names = names_in(expression)
    made = eval(f"lambda {', '.join(names)}: {expression}", {"np": np})
    return made, [VALUES[name] for name in names]


@pytest.mark.parametrize("expression", cases(EXACT))
def test_gives_numpy_result(expression: str) -> None:
    if "fill" in expression:
        expression = "(lambda y: (y.fill(3.0), y)[1])(a + 0)"
    made, arrays = function(expression)
    agree(made, *arrays, ulps=4 if "median" in expression or "gradient" in expression else 0)


@pytest.mark.parametrize("expression", cases(CLOSE))
def test_is_close_to_numpy(expression: str) -> None:
    made, arrays = function(expression)
    agree(made, *arrays, ulps=512)


def test_the_table_is_large() -> None:
    found = cases(EXACT) + cases(CLOSE)
    assert len(found) == len(set(found)) >= 300


def test_methods_that_order_in_place() -> None:
    def program(x: Any) -> Any:
        part = x.T[1:]
        part.partition(2, axis=0)
        x[:, 0].sort()
        return np.sort(x[:, 1:3], axis=1), x[:, 3], x[:, 0]

    x = np.random.default_rng(0).standard_normal((5, 6))
    for got, want in zip(run(trace(program, (x,)), x), program(x.copy()), strict=True):
        np.testing.assert_array_equal(got, want)
