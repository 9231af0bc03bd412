"""The types of a pass: of the residual stream, and of stored activations and products.

``training.precision`` chooses the types; gradients of fp16 are kept in range in
``tisslm.optim.loss_scaling``.
"""

from __future__ import annotations

from dataclasses import dataclass

from tisslm.errors import ConfigError

__all__ = ["Precision"]

#: NumPy has no bfloat16: arrays of uint16 hold its bits.
_STORED = {"fp32": "float32", "bf16": "uint16", "fp16": "float16"}


@dataclass(frozen=True)
class Precision:
    """The data types of a pass.

    Attributes
    ----------
    name : {"fp32", "bf16", "fp16"}
    stream : {"float32", "float64"}
        The type of parameters, gradients, the residual stream, statistics and logits.
    stored : {"float32", "float64", "uint16", "float16"}
        The type of the activations that are kept for backward or enter a matrix product.

    References
    ----------
    Micikevicius et al., "Mixed Precision Training", arXiv 1710.03740.
    Kalamkar et al., "A Study of BFLOAT16 for Deep Learning Training", arXiv 1905.12322.
    """

    name: str
    stream: str
    stored: str

    @classmethod
    def of(cls, name: str, dtype: str) -> Precision:
        """Return the types of a named precision, for a model with parameters of ``dtype``.

        Raises
        ------
        ConfigError
            If the name is unknown, or a mixed precision is asked of a float64 model.
        """
        if name not in _STORED:
            raise ConfigError(
                f"precision: expected one of {', '.join(_STORED)}, got {name!r}"
                + ("; the Trainer resolves it" if name == "auto" else "")
            )
        if dtype == "float64":
            if name != "fp32":
                raise ConfigError(
                    f"precision: a model of float64 has no mixed precision, got {name!r}; build "
                    "it with dtype='float32'"
                )
            return cls(name, "float64", "float64")
        return cls(name, "float32", _STORED[name])

    @property
    def mixed(self) -> bool:
        """True if storing an activation rounds it."""
        return self.stream != self.stored
