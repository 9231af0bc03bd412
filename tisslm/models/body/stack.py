"""The parts of a transformer below its head: embedding, blocks and final norm.

The pass through the parts is in ``body``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tisslm import ops
from tisslm.config.model import GATED, TransformerConfig
from tisslm.config.sections import AdapterConfig
from tisslm.contracts import Buffer, Norm
from tisslm.memory import Parameters
from tisslm.models.body.buffers import BlockPlan, PassPlan
from tisslm.models.body.final_norm import FinalNorm
from tisslm.models.body.recomputation import NamedLayer, Recomputation
from tisslm.models.layers.activation import Gated, Pointwise
from tisslm.models.layers.attention import Attention
from tisslm.models.layers.dropout import Dropout
from tisslm.models.layers.embedding import Embedding
from tisslm.models.layers.linear import Linear
from tisslm.models.layers.lora import LoraRoom
from tisslm.models.layers.mlp import MLP
from tisslm.models.layers.norm import NORMS
from tisslm.models.layers.parallel import ParallelBlock
from tisslm.models.layers.precision import Precision
from tisslm.models.layers.query_keys import AsProjected, NormedHeads, QueryKeys, Rotated
from tisslm.models.rotary import RotaryTable
from tisslm.models.tuning.adapters import Adapters

__all__ = ["Stack"]


@dataclass(frozen=True)
class Stack:
    """The parts of a transformer below its head, in the order in which a pass runs them.

    Attributes
    ----------
    config : TransformerConfig
    precision : Precision
    embedding : Embedding
    blocks : list of tuple of (str, Layer)
        The layers of each block with the prefix of their parameters' names; activation
        checkpointing keeps or recomputes whole blocks.
    final_norm : FinalNorm
    rotary : RotaryTable or None
        The angles of rotary positions, which all layers share.
    room : LoraRoom or None
        The scratch that all adapters share.
    first_trained : int
        The first layer from which backward must be run; layers before it, if any, are frozen, as is
        the embedding.
    trained : bool
        Whether there is a backward at all: everything may be frozen but what is above.
    """

    config: TransformerConfig
    precision: Precision
    embedding: Embedding
    blocks: list[tuple[NamedLayer, ...]]
    final_norm: FinalNorm
    rotary: RotaryTable | None
    room: LoraRoom | None
    first_trained: int
    trained: bool

    @classmethod
    def build(
        cls,
        config: TransformerConfig,
        parameters: Parameters,
        precision: Precision,
        matrices: Parameters | None = None,
        adapter: AdapterConfig | None = None,
    ) -> Stack:
        """Make the parts over the parameters of ``config``, for one precision.

        ``matrices`` are what products read instead, by the same names; such parts are not trained.
        """
        rotary = RotaryTable.of(config) if config.positions == "rotary" else None
        adapters = None if adapter is None else Adapters(config, adapter, precision.stream)
        make = _Builder(config, parameters, precision, rotary, matrices or parameters, adapters)
        blocks = [make.block(i) for i in range(config.n_layer)]
        embedding, room = make.embedding(), None if adapters is None else adapters.room
        names = [name for block in blocks for name, _ in block]
        first = 0 if embedding.trainable else _first_trained(names, parameters)
        normed = any(p.trainable and p.name.startswith("final_norm.") for p in parameters)
        final_norm, trained = make.final_norm(), first < len(names) or normed
        return cls(config, precision, embedding, blocks, final_norm, rotary, room, first, trained)

    @property
    def layers(self) -> list[NamedLayer]:
        """All layers of all blocks."""
        return [named for block in self.blocks for named in block]

    @property
    def untrained(self) -> tuple[str, ...]:
        """What the names of parameters begin with that backward does not come to."""
        layers = tuple(f"{name}." for name, _ in self.layers[: self.first_trained])
        return layers if self.trained else (*layers, "final_norm.", "head.")

    @property
    def tables(self) -> dict[str, int]:
        """The bytes of what is no buffer of a pass, and is made once."""
        rotary = {} if self.rotary is None else {"rotary": self.rotary.nbytes}
        return rotary | ({} if self.room is None else {"scratch.adapters": self.room.nbytes})

    def plan(
        self, batch: int, time: int, recomputation: Recomputation, above: Mapping[str, Buffer]
    ) -> PassPlan:
        """Return the plan of all buffers of a pass of shape (B, T).

        ``above`` are the buffers of what takes the normalized stream.
        """
        rows, dtype = batch * time, self.precision.stream
        stream = Buffer((rows, self.config.n_embd), dtype, "saved")
        own = {
            "tokens": Buffer((batch, time), "int32", "saved"),
            "start": Buffer((batch, time), "int32", "saved"),
            "h": stream,
            "dh": stream,
            **self.embedding.plan((batch, time)),
            **self.final_norm.plan(rows),
            **above,
        }
        if self.config.window:
            own["window"] = Buffer((batch, time), "int32", "saved")
        if not self.config.causal:
            own["stop"] = Buffer((batch, time), "int32", "saved")
        blocks, end = [], 0
        for i, layers in enumerate(self.blocks):
            plans, end = [layer.plan((batch, time)) for _, layer in layers], end + len(layers)
            untrained = end <= self.first_trained
            again = recomputation.takes(i) and not untrained
            blocks.append(BlockPlan(plans, stream if again else None, untrained))
        return PassPlan(own, blocks)


def _first_trained(names: Sequence[str], parameters: Parameters) -> int:
    """Return the number of the first layer that has something to train; of none, that of all."""
    prefixes = [f"{name}." for name in names]
    trained = [p.name for p in parameters if p.trainable]
    found = (i for i, prefix in enumerate(prefixes) if any(n.startswith(prefix) for n in trained))
    return next(found, len(prefixes))


@dataclass(frozen=True)
class _Builder:
    """Makes layers from parameters by name. Site 0 of dropout is the embedding's."""

    config: TransformerConfig
    parameters: Parameters
    precision: Precision
    rotary: RotaryTable | None
    matrices: Parameters
    adapters: Adapters | None

    def _norm(self, name: str) -> Norm:
        return NORMS[self.config.norm].over(self.parameters, name, self.config.norm_eps)

    def _linear(self, name: str) -> Linear:
        adapters = () if self.adapters is None else self.adapters.of(name, self.parameters)
        return Linear(
            self.matrices[f"{name}.weight"], self.parameters.get(f"{name}.bias"), adapters
        )

    def embedding(self) -> Embedding:
        return Embedding(
            self.parameters["embedding.token.weight"],
            self.parameters.get("embedding.position.weight"),
            Dropout(self.config.dropout, site=0),
        )

    def block(self, i: int) -> tuple[NamedLayer, ...]:
        name = f"blocks.{i}"
        attention = self._attention(i, f"{name}.attention")
        mlp = self._mlp(i, f"{name}.mlp")
        if self.config.parallel_residual:
            return ((name, ParallelBlock(attention, mlp)),)
        return (f"{name}.attention", attention), (f"{name}.mlp", mlp)

    def _attention(self, i: int, name: str) -> Attention:
        config = self.config
        return Attention(
            self._norm(f"{name}.norm"),
            self._linear(f"{name}.qkv"),
            self._linear(f"{name}.out"),
            config.n_head,
            config.n_kv_head,
            self._query_keys(name),
            config.window_of(i),
            config.causal,
            Dropout(config.dropout, site=1 + 3 * i),
            Dropout(config.dropout, site=2 + 3 * i),
            self.precision,
            config.attention_scale,
        )

    def _query_keys(self, name: str) -> QueryKeys:
        config, heads = self.config, (self.config.n_head, self.config.n_kv_head)
        then = AsProjected() if self.rotary is None else Rotated(*heads, self.rotary)
        if config.qk_norm == "none":
            return then
        q_weight, k_weight = (self.parameters[f"{name}.{part}_norm.weight"] for part in "qk")
        return NormedHeads(*heads, q_weight, k_weight, config.norm_eps, then, self.precision)

    def _mlp(self, i: int, name: str) -> MLP:
        activation = self.config.activation
        code = ops.ACTIVATIONS[GATED.get(activation, activation)]
        return MLP(
            self._norm(f"{name}.norm"),
            self._linear(f"{name}.up"),
            self._linear(f"{name}.down"),
            Gated(code) if self.config.gated else Pointwise(code),
            Dropout(self.config.dropout, site=3 + 3 * i),
            self.precision,
        )

    def final_norm(self) -> FinalNorm:
        return FinalNorm(self._norm("final_norm"), self.config.n_embd, self.precision)
