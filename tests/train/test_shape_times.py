"""Times of shapes: the fit against an exact law, what a first time adds, what is measured."""

import pytest

from lightune.train.shape_times import fit_times, representative


def law(shape, fixed=0.02, token=3e-5, pair=2e-7):
    rows, length = shape
    return fixed + token * rows * length + pair * rows * length**2


SHAPES = [(16, 8), (16, 64), (16, 128), (16, 512), (4, 24)]


def test_an_exact_law_is_found():
    found = fit_times({shape: [law(shape)] * 3 for shape in SHAPES})
    assert (found.fixed, found.per_token, found.per_pair) == pytest.approx((0.02, 3e-5, 2e-7))
    assert (found.first, found.start) == (0, 0)
    assert found.of((32, 256)) == pytest.approx(law((32, 256)))


def test_no_part_is_negative():
    """A line through these two points falls below zero at no tokens."""
    found = fit_times({(8, 8): [1.0, 1.0], (8, 16): [3.0, 3.0]})
    assert min(found.fixed, found.per_token, found.per_pair) >= 0


def test_first_times_are_counted_once_for_each_shape():
    times = {shape: [law(shape) + 0.5] + [law(shape)] * 2 for shape in SHAPES}
    times[SHAPES[0]][0] += 4.0
    found = fit_times(times)
    assert found.first == pytest.approx(0.5)
    assert found.start == pytest.approx(4.0)
    run = [(16, 8)] * 10 + [(16, 64)] * 5
    expected = 10 * law((16, 8)) + 5 * law((16, 64)) + 2 * 0.5 + 4.0
    assert found.total(run) == pytest.approx(expected)
    assert found.total([]) == 0


@pytest.mark.parametrize("count", [1, 2, 3, 6, 50])
def test_the_longest_is_always_measured_and_never_first_of_several(count):
    shapes = [(16, length) for length in (8, 8, 8, 16, 24, 32, 32, 64, 512)]
    chosen = representative(shapes, count)
    assert len(chosen) == len(set(chosen)) <= count
    assert (16, 512) in chosen
    assert set(chosen) <= set(shapes)
    if count >= 3:
        assert chosen[0] != (16, 512)
        assert (16, 8) in chosen


def test_all_batches_alike():
    assert representative([(4, 8)] * 7, 6) == [(4, 8)]
