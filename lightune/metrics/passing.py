"""pass@k: how probable it is that of k programs written for a task one passes its tests.

    pass@k = mean over tasks of  1 - C(n - c, k) / C(n, k)

n programs were written, c of them pass; unbiased (Chen et al. 2021, arXiv:2107.03374, equation 1),
and computed as the product of 1 - k / i for i from n - c + 1 to n, as there.
"""

import numpy as np


def pass_at(k: int, written: int, passed: int) -> float:
    """Return the estimate of one task.

    Args:
        k: at most `written`.
        written: programs that were run.
        passed: those that came to their end.
    """
    if not 1 <= k <= written or not 0 <= passed <= written:
        raise ValueError(f"k {k}, {written} written and {passed} passed do not fit")
    if written - passed < k:
        return 1.0
    return 1.0 - float(np.prod(1.0 - k / np.arange(written - passed + 1, written + 1)))
