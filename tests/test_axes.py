"""Views with other axes: transposed, with axes of size 1, reshaped to the same sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from numba_mlir import njit


def one_vector(s: Any) -> Any:
    n = s.shape[0]
    return (
        s.reshape(-1, 1) + s.reshape(1, -1),
        s.reshape((n, 1)) * s.reshape(1, 1, n),
        np.reshape(s, (-1, 1)) - np.expand_dims(s, 0),
        np.expand_dims(s, -1) + s.T,
        s.ravel() + np.ravel(s),
        s.reshape(n) + s.reshape(-1),
    )


def one_matrix(x: Any) -> Any:
    n, m = x.shape
    return (
        x.T + 1.0,
        x.transpose() * x.T,
        np.transpose(x, (1, 0)) - np.transpose(x),
        x.reshape(n, 1, m) + np.expand_dims(x, 1),
        x.reshape(n, m) + x,
        (x + 0.0).T.sum(axis=0),
        x.T[1:].sum(axis=1),
    )


def three(x: Any) -> Any:
    return x.transpose(1, 2, 0) + 1.0, np.transpose(x, (-1, 0, 1)).max(axis=2) * 2.0, x.T[::-1] * 2


def written(x: Any) -> Any:
    x.T[1:] = x.T[:-1] * 2.0
    y = np.zeros(x.shape[0])
    y.reshape(-1, 1)[:] = x[:, :1]
    x.T[:] += y
    return x, y


def same(got: Any, expected: Any) -> None:
    for one, other in zip(got, expected, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (one_vector, [(5,), (1,), (0,)]),
        (one_matrix, [(3, 4), (1, 3), (4, 1), (1, 1)]),
        (three, [(2, 3, 4), (1, 3, 1)]),
        (written, [(4, 4), (3, 5), (3, 1)]),
    ],
)
def test_values(function: Any, shapes: list[tuple[int, ...]]) -> None:
    compiled = njit(function)
    for shape in shapes:
        x = np.random.default_rng(0).normal(size=shape)
        same(compiled(x.copy()), function(x.copy()))


def test_layouts() -> None:
    def f(x: Any) -> Any:
        return x.T + 1.0, x.T.sum(axis=1), np.expand_dims(x, 2) * 2.0

    compiled = njit(f)
    x = np.random.default_rng(1).normal(size=(6, 8))
    for array in (np.asfortranarray(x), x[::2, ::-1], x[:, 3:], x.T):
        same(compiled(array), f(array))


def test_a_reshape_that_may_raise_still_does() -> None:
    def f(s: Any, n: int) -> Any:
        s.reshape(n, 1)  # its error is all that matters
        return s.reshape(n, 1) + 1.0

    compiled = njit(f)
    np.testing.assert_array_equal(compiled(np.arange(3.0), 3), f(np.arange(3.0), 3))
    with pytest.raises((ValueError, NotImplementedError)):
        compiled(np.arange(3.0), 2)


def test_an_axis_that_does_not_fit() -> None:
    with pytest.raises(Exception, match="axis"):
        njit(lambda s: np.expand_dims(s, 3) + 1.0)(np.ones(2))
    with pytest.raises(ValueError, match="axis"):
        njit(lambda s: np.transpose(s, (0, 0)) + 1.0)(np.ones((2, 2)))


REWRITES = ["s.reshape(-1, 1)", "np.expand_dims(s, 1)", "s.reshape((n, 1))", "s[:, np.newaxis]"]


@pytest.mark.parametrize("parallel", [False, True])
def test_rows_fuse_through_them(parallel: bool) -> None:
    for text in REWRITES[:1] if parallel else REWRITES:
        namespace: dict[str, Any] = {"np": np}
        source = f"""
def f(x):
    n, m = x.shape
    e = np.exp(x)
    s = e.sum(axis=1)
    return e / {text}
"""
        exec(source, namespace)
        function = namespace["f"]
        compiled = njit(parallel=parallel)(function)
        x = np.random.default_rng(2).normal(size=(4, 5))
        np.testing.assert_allclose(compiled(x), function(x), rtol=1e-13)
        stage = "after-row-fusion" if parallel else "after-fusion"
        assert compiled.inspect_mlir(stage=stage).count("scf.parallel") == 1


def test_reductions_around_numbers_fuse() -> None:
    def f(x: Any) -> Any:
        return x.mean() + x.std() + x.min() - 2 * x.max()

    compiled = njit(f)
    x = np.random.default_rng(3).normal(size=1000)
    np.testing.assert_allclose(compiled(x), f(x), rtol=1e-13)
    text = compiled.inspect_mlir(stage="after-fusion")
    assert text.count("scf.parallel") == 2  # the standard deviation needs the mean
    with pytest.raises(ValueError, match="zero-size array to reduction operation minimum"):
        compiled(np.empty(0))
