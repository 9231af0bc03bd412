"""Gradient checks of everything that has a backward or an update, built in or installed.

The problems that are checked are in ``tisslm.testing.gradients``.
"""

from __future__ import annotations

from tisslm.contracts import ModelConfig, ModelFamily
from tisslm.errors import ConfigError
from tisslm.errors.suggestions import did_you_mean
from tisslm.registry import Registry, load_registry
from tisslm.testing.gradients.heads import capped_cases
from tisslm.testing.gradients.kernels import kernel_cases
from tisslm.testing.gradients.layers import layer_cases
from tisslm.testing.gradients.losses import loss_cases
from tisslm.testing.gradients.models import model_cases
from tisslm.testing.gradients.norms import norm_cases
from tisslm.testing.gradients.optimizers import optimizer_rows
from tisslm.testing.gradients.pooling import pooling_cases
from tisslm.testing.gradients.problem import GradientRow, rows_of

__all__ = ["GradientRow", "check_gradients"]


def check_gradients(
    component: str | None = None,
    registry: Registry | None = None,
    *,
    model: ModelConfig | None = None,
    family: ModelFamily | None = None,
) -> list[GradientRow]:
    """Compare every backward with central differences in float64, and float32 with float64.

    Four-point central differences verify the NumPy twins, and layers and models that are made of
    them; float32, where the compiled kernels run, is compared with float64 at sizes that reach
    every branch of a kernel. Optimizers must lower a loss, decay must shrink parameters, and both
    types must agree. A part that raises an exception gives a row that failed.

    Parameters
    ----------
    component : str, optional
        A name or a kind (kernel, layer, head, loss, model, optimizer); everything if left out.
    registry : Registry, optional
        The losses and optimizers to check; every installed one if left out.
    model : ModelConfig, optional
        Check only the model of this configuration, in place of tiny ones. It is built in both
        types, so it should be small.
    family : ModelFamily, optional
        The family of the model; that of Transformers if left out.

    Returns
    -------
    list of GradientRow
        At least one; ``all(row.passed for row in rows)`` is the verdict.

    Raises
    ------
    ConfigError
        If there is no such component.

    Examples
    --------
    >>> all(row.passed for row in check_gradients("layer_norm"))
    True
    """
    registry = load_registry() if registry is None else registry
    if model is not None:
        cases = list(model_cases(model, family))
        optimizers = False
    else:
        cases = [*kernel_cases(), *norm_cases(), *pooling_cases(), *layer_cases()]
        cases += [*capped_cases(), *loss_cases(registry), *model_cases()]
        optimizers = True
    chosen = [case for case in cases if component in (None, case.name, case.kind)]
    names = {part.entry.name for part in registry.entries("optimizer")} | {"optimizer"}
    optimizers = optimizers and (component is None or component in names)
    if component is not None and not chosen and not optimizers:
        known = sorted({name for case in cases for name in (case.name, case.kind)} | names)
        hint = did_you_mean(component, known)
        raise ConfigError(
            f"gradcheck: unknown component {component!r}. Known: {', '.join(known)}"
            f"{hint and '.' + hint}"
        )
    rows = [row for case in chosen for row in rows_of(case)]
    return rows + optimizer_rows(registry, component) if optimizers else rows
