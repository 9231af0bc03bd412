"""Choosing the documents that are held out for validation; no document is divided.

A single text is split in two in ``text``.
"""

from __future__ import annotations

from fractions import Fraction

from tisslm.datasets.documents import TokenDocuments
from tisslm.datasets.permutation import mix
from tisslm.errors import DataError

__all__ = ["TooShortError", "is_held_out", "split_documents"]

#: So that the choice is another than those that hash small numbers for something else.
SALT = 0x5EED_0F_5B117


class TooShortError(DataError):
    """The data, or the part that is held out, are too short for one row.

    Attributes
    ----------
    n_tokens : int
        How many tokens there are.
    was_split : bool
        Whether there would be more tokens if nothing were held out.
    """

    def __init__(self, message: str, n_tokens: int, *, was_split: bool) -> None:
        super().__init__(message)
        self.n_tokens, self.was_split = n_tokens, was_split


def is_held_out(index: int, fraction: float) -> bool:
    """Return True if a document is held out for validation, by its number alone.

    Of each 1 / fraction documents in a row, a hash picks one; of the first ones, it is the
    second document, so that two are enough for both parts. It depends on no seed: another run
    validates on the same documents, and so does one with more documents at the end.

    Parameters
    ----------
    index : int
        The document's number, from 0.
    fraction : float
        In [0, 1).

    Examples
    --------
    >>> [i for i in range(40) if is_held_out(i, 0.1)]
    [1, 14, 27, 39]
    """
    share = Fraction(str(float(fraction)))
    if not share:
        return False
    cell = index * share.numerator // share.denominator
    begin, end = (-(-n * share.denominator // share.numerator) for n in (cell, cell + 1))
    chosen = mix(cell ^ SALT) % (end - begin) if cell else min(1, end - 1)
    return index == begin + chosen


def split_documents(
    documents: TokenDocuments, fraction: float
) -> tuple[TokenDocuments, TokenDocuments | None]:
    """Split ready tokens: the last documents are held out for validation.

    Parameters
    ----------
    documents : TokenDocuments
    fraction : float
        The share of the tokens to hold out, in [0, 1); 0 holds out nothing.

    Returns
    -------
    train, valid : TokenDocuments
        Views, cut at the boundary of documents that is nearest to the share; each has at least one
        document.

    Raises
    ------
    TooShortError
        If there is only one document to split.
    """
    if not fraction:
        return documents, None
    if len(documents) < 2:
        message = (
            f"{documents.where}: expected several documents to hold some out, got one; set "
            "data.valid_path to tokens to validate on, or data.valid_fraction to 0"
        )
        raise TooShortError(message, 0, was_split=True)
    wanted = len(documents.tokens) * (1.0 - fraction)
    cut = int(documents.offsets.searchsorted(wanted))
    cut = min(max(cut, 1), len(documents) - 1)
    return documents.part(0, cut), documents.part(cut, len(documents))
