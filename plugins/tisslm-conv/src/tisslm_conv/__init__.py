"""The hook module of the plugin: it names the model family, and imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable

from tisslm import Entry, hookimpl


@hookimpl
def tisslm_models() -> Iterable[Entry]:
    """Yield the family of causal convolutions."""
    yield Entry(
        "causal_conv", "tisslm_conv.family:CausalConv", "dilated causal convolutions, in NumPy"
    )
