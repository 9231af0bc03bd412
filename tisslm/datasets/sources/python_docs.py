"""The text that every Python carries: the language reference behind ``help()``."""

from __future__ import annotations

import re

from tisslm.errors import DataError

__all__ = ["python_docs_text"]


def python_docs_text() -> str:
    r"""Return the topics of ``pydoc_data.topics`` as one text, in the order of their names.

    Line ends are ``\n``, blank lines around a topic are cut, and two stand between topics. The
    text is about 0.4 million characters and differs a little from one Python version to another.

    Returns
    -------
    str

    Raises
    ------
    DataError
        If this Python was packaged without its documentation.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise DataError(
            "python-docs: this Python was packaged without the module pydoc_data.topics; "
            "set data.path to a UTF-8 text file"
        ) from None
    parts = (re.sub(r"\r\n?", "\n", topics[name]).strip("\n") for name in sorted(topics))
    return "\n\n\n".join(parts) + "\n"
