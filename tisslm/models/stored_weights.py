"""A copy of a model's matrices in two bytes an element, for decoding alone.

A decoded token reads every matrix once, so half of the bytes is nearly half of the time.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tisslm import ops
from tisslm.config.model import TransformerConfig
from tisslm.errors import ConfigError
from tisslm.memory import Parameters
from tisslm.models.initialization import parameter_specs

__all__ = ["stored_matrices"]

TABLES = ("embedding.token.weight", "embedding.position.weight")


def stored_matrices(config: TransformerConfig, parameters: Parameters, weights: str) -> Parameters:
    """Round what products read, each matrix by itself, to a new copy by the same names.

    Parameters
    ----------
    config : TransformerConfig
    parameters : Parameters
        They are read, and stay.
    weights : {"bf16"}

    Returns
    -------
    ``Parameters``
        Frozen ones of uint16 with the bits of bfloat16: all matrices, and the table of tokens only
        where it is the output matrix, too.

    Raises
    ------
    ConfigError
        For any other type.
    """
    if weights != "bf16":
        raise ConfigError(f'decoder: weights: expected "fp32" or "bf16", got {weights!r}')
    unread = set(TABLES[1 if config.tie_embeddings else 0 :])
    specs = [
        replace(spec, trainable=False)
        for spec in parameter_specs(config)
        if len(spec.shape) == 2 and spec.name not in unread
    ]
    stored = Parameters(specs, np.uint16)
    for parameter in stored:
        values = ops.widen(parameters[parameter.name].data).astype(np.float32, copy=False)
        ops.narrow(values, parameter.data)
    return stored
