"""The parts of a transformer: embedding, blocks and head, over one set of parameters.

The pass through the parts is in ``transformer``.
"""

from __future__ import annotations

from dataclasses import dataclass

from tisslm import ops
from tisslm.contracts import Buffer, Layer, Norm
from tisslm.memory import Parameters
from tisslm.models.buffers import BlockPlan, PassPlan
from tisslm.models.head import Head
from tisslm.models.layers.attention import Attention
from tisslm.models.layers.dropout import Dropout
from tisslm.models.layers.embedding import Embedding
from tisslm.models.layers.linear import Linear
from tisslm.models.layers.mlp import MLP
from tisslm.models.layers.norm import NORMS
from tisslm.models.layers.precision import Precision
from tisslm.models.recomputation import Recomputation
from tisslm.models.transformer_config import TransformerConfig

__all__ = ["Stack"]


@dataclass(frozen=True)
class Stack:
    """The parts of a transformer, in the order in which a pass runs them.

    Attributes
    ----------
    config : TransformerConfig
    precision : Precision
    embedding : Embedding
    blocks : list of tuple of Layer
        Attention and MLP of each block; activation checkpointing keeps or recomputes whole blocks.
    head : Head
    """

    config: TransformerConfig
    precision: Precision
    embedding: Embedding
    blocks: list[tuple[Layer, ...]]
    head: Head

    @classmethod
    def build(
        cls, config: TransformerConfig, parameters: Parameters, precision: Precision
    ) -> Stack:
        """Make the parts over the parameters of ``config``, for one precision."""
        make = _Builder(config, parameters, precision)
        blocks: list[tuple[Layer, ...]] = [
            (make.attention(i), make.mlp(i)) for i in range(config.n_layer)
        ]
        return cls(config, precision, make.embedding(), blocks, make.head())

    @property
    def layers(self) -> list[tuple[str, Layer]]:
        """All layers of all blocks, each with the prefix of its parameters' names."""
        parts = ("attention", "mlp")
        return [
            (f"blocks.{i}.{part}", layer)
            for i, block in enumerate(self.blocks)
            for part, layer in zip(parts, block, strict=True)
        ]

    def plan(self, batch: int, time: int, recomputation: Recomputation) -> PassPlan:
        """Return the plan of all buffers of a pass of shape (B, T)."""
        rows, dtype = batch * time, self.precision.stream
        stream = Buffer((rows, self.config.n_embd), dtype, "saved")
        own = {
            "tokens": Buffer((batch, time), "int32", "saved"),
            "start": Buffer((batch, time), "int32", "saved"),
            "targets": Buffer((rows,), "int32", "saved"),
            "weights": Buffer((rows,), dtype, "saved"),
            "h": stream,
            "dh": stream,
            **self.embedding.plan((batch, time)),
            **self.head.plan(rows),
        }
        blocks = []
        for i, layers in enumerate(self.blocks):
            plans = [layer.plan((batch, time)) for layer in layers]
            blocks.append(BlockPlan(plans, stream if recomputation.takes(i) else None))
        return PassPlan(own, blocks)


@dataclass(frozen=True)
class _Builder:
    """Makes layers from parameters by name. Site 0 of dropout is the embedding's."""

    config: TransformerConfig
    parameters: Parameters
    precision: Precision

    def _norm(self, name: str) -> Norm:
        return NORMS[self.config.norm].over(self.parameters, name, self.config.norm_eps)

    def _linear(self, name: str) -> Linear:
        get = self.parameters
        return Linear(get[f"{name}.weight"], get[f"{name}.bias"] if self.config.bias else None)

    def embedding(self) -> Embedding:
        get = self.parameters
        return Embedding(
            get["embedding.token.weight"],
            get["embedding.position.weight"],
            Dropout(self.config.dropout, site=0),
        )

    def attention(self, i: int) -> Attention:
        config, name = self.config, f"blocks.{i}.attention"
        return Attention(
            self._norm(f"{name}.norm"),
            self._linear(f"{name}.qkv"),
            self._linear(f"{name}.out"),
            config.n_head,
            config.n_kv_head,
            Dropout(config.dropout, site=1 + 3 * i),
            Dropout(config.dropout, site=2 + 3 * i),
            self.precision,
        )

    def mlp(self, i: int) -> MLP:
        name = f"blocks.{i}.mlp"
        return MLP(
            self._norm(f"{name}.norm"),
            self._linear(f"{name}.up"),
            self._linear(f"{name}.down"),
            ops.ACTIVATIONS[self.config.activation],
            Dropout(self.config.dropout, site=3 + 3 * i),
            self.precision,
        )

    def head(self) -> Head:
        tied = "embedding.token.weight" if self.config.tie_embeddings else "head.weight"
        return Head(self._norm("final_norm"), Linear(self.parameters[tied], None), self.precision)
