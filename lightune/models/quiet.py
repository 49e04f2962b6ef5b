"""Transformers without its messages and bars: we say ourselves what matters, as notes."""

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO

from transformers.utils import logging


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Transformers' log below errors and its progress bars; restore both on the way out.

    Standard error is held back too: the bar of the GGUF reader is tqdm's own and has no switch.
    What goes wrong is raised, not printed.
    """
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if bars:
        logging.disable_progress_bar()
    try:
        with redirect_stderr(StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
