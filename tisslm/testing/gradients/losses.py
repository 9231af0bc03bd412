"""Every registered loss as a problem for the gradient checks: by its tile, and below the head.

Those of vectors of texts are in ``embedding_losses``, those of pairs of answers in
``preference_losses``; the other checks of a loss are in ``tisslm.testing.losses``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import IGNORE_INDEX, Batch, EmbeddingLoss, Loss, PreferenceLoss
from tisslm.memory import Parameters, ParameterSpec
from tisslm.models.body.final_norm import FinalNorm
from tisslm.models.head import Head
from tisslm.models.layers.linear import Linear
from tisslm.models.layers.norm import LayerNorm
from tisslm.models.layers.precision import Precision
from tisslm.registry import Registry
from tisslm.testing.examples import option_sets
from tisslm.testing.gradients.embedding_losses import EmbeddingLossProblem
from tisslm.testing.gradients.layers import buffers, fresh_gradients, gradients_of
from tisslm.testing.gradients.preference_losses import PreferenceLossProblem
from tisslm.testing.gradients.problem import Case, Problem, draw, draw_values

__all__ = ["HeadProblem", "TileProblem", "loss_cases", "targets_and_weights"]

Array = NDArray[Any]
MakeLoss = Callable[[], Loss]


def targets_and_weights(n_rows: int, vocab: int, dtype: Any) -> tuple[Array, Array]:
    """Return targets, of which every fifth is -100, and weights that differ."""
    rng = np.random.default_rng(n_rows)
    targets_N = rng.integers(0, vocab, n_rows, dtype=np.int32)
    targets_N[2::5] = IGNORE_INDEX
    weights_N = (0.5 + rng.random(n_rows, dtype=np.float32)).astype(dtype)
    weights_N[2::5] = 0.0
    return targets_N, weights_N


@final
class TileProblem(Problem):
    """The losses of a tile of rows as a function of their logits.

    Parameters
    ----------
    make : callable
        Builds the loss.
    dtype : str
    large : bool
    """

    def __init__(self, make: MakeLoss, dtype: str, large: bool) -> None:
        n, vocab = (20, 203) if large else (7, 5)
        self.loss = make()
        self.logits = draw("logits", (n, vocab), 2.0).astype(dtype)
        self.targets, self.counts = targets_and_weights(n, vocab, dtype)
        self.values = {"logits_NV": self.logits}

    def weights(self, name: str, like: Array) -> Array:
        """Return ones: the tile has its own weights."""
        return np.ones_like(like)

    def outputs(self) -> Mapping[str, Array]:
        """Return the losses."""
        losses_N = self.loss.tile(self.logits, self.targets, self.counts, gradient=False)
        return {"losses_N": losses_N}

    def gradients(self) -> Mapping[str, Array]:
        """Return the gradient of the sum of the losses."""
        gradient = self.logits.copy()
        self.loss.tile(gradient, self.targets, self.counts)
        return {"logits_NV": gradient}


@final
class HeadProblem(Problem):
    """Norm, output projection and loss, in chunks of a few rows.

    Parameters
    ----------
    make : callable
        Builds the loss.
    dtype : str
    large : bool
    cap : float
        Soft cap of the logits; 0 for none.
    factor : float
        What logits are multiplied by before it.
    """

    def __init__(
        self, make: MakeLoss, dtype: str, large: bool, *, cap: float = 0.0, factor: float = 1.0
    ) -> None:
        self.shape, vocab, channels = ((3, 30), 203, 72) if large else ((2, 5), 6, 4)
        specs = [
            ParameterSpec("norm.weight", (channels,)),
            ParameterSpec("norm.bias", (channels,)),
            ParameterSpec("project", (vocab, channels)),
        ]
        self.parameters = get = Parameters(specs, dtype)
        draw_values(get)
        norm = LayerNorm(get["norm.weight"], get["norm.bias"], 1e-5)
        precision = Precision.of("fp32", dtype)
        self.norm = FinalNorm(norm, channels, precision)
        self.head = Head(Linear(get["project"], None), precision, cap, factor=factor)
        self.head.chunk = 32 if large else 4
        self.loss = make()
        rows = self.shape[0] * self.shape[1]
        self.stream = draw("stream", (rows, channels)).astype(dtype)
        self.targets, self.counts = targets_and_weights(rows, vocab, dtype)
        self.values = {"stream": self.stream, **{p.name: p.data for p in get}}

    def weights(self, name: str, like: Array) -> Array:
        """Return one, the weight of the loss."""
        return np.ones_like(like)

    def _run(self, gradient: bool) -> tuple[float, Array]:
        rows = len(self.stream)
        plan = {**self.norm.plan(rows), **self.head.plan(rows)}
        own = {**buffers(plan, "saved"), **buffers(plan, "scratch")}
        dh_NC = np.full_like(self.stream, np.nan)
        self.norm.forward(self.stream, own)
        if self.loss.needs == "hidden":
            total, d_hidden = self.loss.whole(own["hidden"].reshape(*self.shape, -1), self._batch())
            dh_NC[...] = d_hidden.reshape(dh_NC.shape)
        else:
            where = dh_NC if gradient else None
            total = self.head.loss(self.loss, self.targets, self.counts, own, where)
        if gradient:
            self.norm.backward(self.stream, dh_NC, own)
        return total, dh_NC

    def _batch(self) -> Batch:
        targets_BT = self.targets.reshape(self.shape)
        inputs_BT = np.maximum(targets_BT, 0)
        return Batch(inputs_BT, targets_BT, self.counts.reshape(self.shape))

    def outputs(self) -> Mapping[str, Array]:
        """Return the loss."""
        return {"loss": np.asarray(self._run(False)[0])}

    def gradients(self) -> Mapping[str, Array]:
        """Run forward and backward; a loss on hidden states does not use the projection."""
        fresh_gradients(self.parameters)
        stream = self._run(True)[1]
        found = {"stream": stream, **gradients_of(self.parameters)}
        if self.loss.needs == "hidden":
            del found["project"]
        return found


def loss_cases(registry: Registry) -> list[Case]:
    """Return cases of kind ``loss`` and, but for those of vectors and of pairs, ``head``."""
    cases: list[Case] = []
    for part in registry.entries("loss"):
        name = part.entry.name
        try:
            cls = part.load()
            sets = option_sets(cls, None)
        except Exception as error:  # the plugin's module; its row says what it raised
            cases.append(Case(name, "loss", partial(_broken, error)))
            continue
        for options in sets:

            def make(cls: type[Any] = cls, options: Mapping[str, Any] = options) -> Any:
                return cls(**options)

            if issubclass(cls, EmbeddingLoss):
                of_vectors = partial(EmbeddingLossProblem, make)
                cases.append(Case(name, "loss", of_vectors, limit=64))
                continue
            if issubclass(cls, PreferenceLoss):
                of_pairs = partial(PreferenceLossProblem, make)
                cases.append(Case(name, "loss", of_pairs, limit=64))
                continue
            if cls.needs == "logits":
                cases.append(Case(name, "loss", partial(TileProblem, make), limit=64))
            cases.append(Case(name, "head", partial(HeadProblem, make)))
    return cases


def _broken(error: Exception, dtype: str, large: bool) -> Problem:
    raise error
