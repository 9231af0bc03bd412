"""Which keys of a shape go together; what does not is refused before memory is taken."""

from __future__ import annotations

from tisslm.config.fields import refused, show
from tisslm.config.model.keys import CHOICES, FULL, SLIDING, ShapeKeys
from tisslm.config.model.positions import ROTARY
from tisslm.config.model.rope_scaling import RopeScaling
from tisslm.errors import ConfigError
from tisslm.errors.suggestions import did_you_mean

__all__ = ["SIZES_END", "check_shape"]

#: The most layers. They are built one by one, also to plan a run, so an absurd number is refused.
MOST_LAYERS = 10_000

#: The bound of all sizes, so that no number of elements exceeds the range of addresses.
SIZES_END = 2**31

#: The bounds of a cap of logits, so that float32 holds it, its inverse, and a logit divided by it.
LEAST_CAP, CAPS_END = 2.0**-63, 2.0**63

#: The bounds of an initial 1 / temperature that is learned.
LEAST_SCALE, MOST_SCALE = 1e-3, 1e3


def check_shape(shape: ShapeKeys) -> None:
    """Raise an error of one sentence, for a validator, unless a shape's keys go together.

    Parameters
    ----------
    shape : ShapeKeys
        With every size filled in.

    Raises
    ------
    PydanticCustomError
        Of ``refused``, which becomes a ``ConfigError``.
    """
    for key, names in CHOICES.items():
        if (name := getattr(shape, key)) not in names:
            hint = did_you_mean(name, names)
            raise refused(
                f"model.{key}: expected one of {', '.join(names)}, got {name!r:.200}"
                f"{hint and '.' + hint}"
            )
    if shape.norm == "rms" and shape.norm_bias:
        raise refused('model.norm_bias: expected false, since "rms" adds nothing, got true')
    _check_sizes(shape)
    _check_positions(shape)
    _check_window(shape)
    if shape.logit_cap and not LEAST_CAP <= shape.logit_cap < CAPS_END:
        raise refused(
            "model.logit_cap: expected 0, which caps nothing, or a number from 2^-63 to 2^63, "
            f"got {show(shape.logit_cap)}"
        )
    _check_mup(shape)
    _check_embeddings(shape)


def _check_mup(shape: ShapeKeys) -> None:
    base, head_dim = shape.mup_base_width, shape.mup_base_head_dim
    if not base:
        if head_dim:
            raise refused(
                f"model.mup_base_head_dim: {head_dim} needs model.mup_base_width, got none; set "
                "it, or leave both out"
            )
        return
    for key in ("mup_base_width", "mup_base_head_dim"):
        if (size := getattr(shape, key)) >= SIZES_END:
            raise refused(f"model.{key}: expected an integer below {SIZES_END}, got {size}")
    if shape.embeds:
        raise refused(
            "model.mup_base_width: expected 0, since muP says nothing of the vectors of a model "
            f"with pooling = {show(shape.pooling)}, got {base}; leave it out, or start from an "
            "export of the model"
        )


def _check_embeddings(shape: ShapeKeys) -> None:
    if shape.embeds:
        if shape.logit_cap:
            raise refused(
                f"model.logit_cap: expected 0, since a model with pooling = {show(shape.pooling)} "
                f"has no logits, got {show(shape.logit_cap)}; leave it out"
            )
        if shape.projection >= SIZES_END:
            raise refused(
                f"model.projection: expected an integer below {SIZES_END}, got {shape.projection}"
            )
        if shape.logit_scale and not LEAST_SCALE <= shape.logit_scale <= MOST_SCALE:
            raise refused(
                f"model.logit_scale: expected 0, which learns none, or a number from {LEAST_SCALE} "
                f"to {MOST_SCALE}, 1 over the temperature, got {show(shape.logit_scale)}"
            )
        return
    for key in ("projection", "normalize", "logit_scale"):
        if (value := getattr(shape, key)) != ShapeKeys.model_fields[key].default:
            raise refused(
                f"model.{key}: {show(value)} is for models of texts' vectors, got pooling = "
                '"none"; set model.pooling to mean, last or max, or leave it out'
            )


def _check_sizes(shape: ShapeKeys) -> None:
    ends = {"n_layer": MOST_LAYERS + 1, "n_hidden": 4 * SIZES_END}
    for key in ("n_layer", "n_head", "n_embd", "seq_len", "vocab_size", "head_dim", "n_hidden"):
        end = ends.get(key, SIZES_END)
        if (size := getattr(shape, key)) >= end:
            raise refused(f"model.{key}: expected an integer below {end}, got {size}")
    if shape.n_kv_head < 1 or shape.n_head % shape.n_kv_head:
        raise refused(
            f"model.n_kv_head: expected a divisor of n_head = {shape.n_head}, got {shape.n_kv_head}"
        )
    if shape.head_dim < 1:
        raise refused(
            f"model.n_embd: expected a multiple of n_head = {shape.n_head}, got {shape.n_embd}; "
            "or give model.head_dim"
        )


def _check_positions(shape: ShapeKeys) -> None:
    if shape.positions == "rotary":
        _check_rotary(shape)
        return
    for key in ROTARY:
        if (value := getattr(shape, key)) != ShapeKeys.model_fields[key].default:
            raise refused(
                f'model.{key}: {show(value)} needs positions = "rotary", got '
                f"{show(shape.positions)}; leave it out, or change model.positions"
            )


def _check_rotary(shape: ShapeKeys) -> None:
    turned = int(shape.head_dim * shape.rotary_fraction)
    if shape.rotary_fraction == 1 and turned % 2:
        raise refused(
            "model.head_dim: expected an even number, since rotary positions turn channels in "
            f"pairs, got {shape.head_dim}{_quotient(shape)}"
        )
    if turned % 2 or not turned:
        raise refused(
            f"model.rotary_fraction: expected a part of head_dim = {shape.head_dim} that is an "
            f"even number of channels, got {show(shape.rotary_fraction)}, which is {turned} of "
            "them; give another one, or another model.head_dim"
        )
    if not 1 < shape.rope_theta < 2**63:
        raise refused(
            "model.rope_theta: expected a number above 1 and below 2^63, got "
            f"{show(shape.rope_theta)}"
        )
    try:
        RopeScaling.parse(shape.rope_scaling, shape.seq_len)
    except ConfigError as error:
        raise refused(str(error)) from None


def _quotient(shape: ShapeKeys) -> str:
    """Return what ``head_dim`` follows from, where nobody may have given it."""
    if shape.head_dim * shape.n_head != shape.n_embd:
        return ""
    return f", which is n_embd / n_head = {shape.n_embd} / {shape.n_head}"


def _check_window(shape: ShapeKeys) -> None:
    if shape.window and not shape.causal:
        raise refused(
            "model.window: expected 0 with causal = false, since published models do not agree on "
            f"how far a window reaches to both sides, got {shape.window}; leave one of the two out"
        )
    if shape.positions == "learned" and shape.window > shape.seq_len:
        raise refused(
            f"model.window: expected at most seq_len = {shape.seq_len}, beyond which there are "
            f"no learned positions, got {shape.window}"
        )
    if shape.layer_types is not None:
        for name in shape.layer_types:
            if name not in (FULL, SLIDING):
                raise refused(
                    f"model.layer_types: expected names out of {FULL} and {SLIDING}, "
                    f"got {show(name)}"
                )
        if not 1 <= len(shape.layer_types) <= shape.n_layer:
            raise refused(
                f"model.layer_types: expected 1 to n_layer = {shape.n_layer} names, which are "
                f"repeated over the layers, got {len(shape.layer_types)}"
            )
        if SLIDING in shape.layer_types and not shape.window:
            raise refused(
                f"model.layer_types: {SLIDING} needs model.window, the number of tokens that "
                "such a layer sees; set it"
            )
