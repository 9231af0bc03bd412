"""The section ``[model]``: a family, a preset or a model to start from, and keys of the shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, create_model

from tisslm.config.base import Section
from tisslm.config.fields import Expects, check_plain
from tisslm.config.model.keys import OF_VECTORS, ShapeKeys
from tisslm.config.model.presets import FAMILIES, FAMILY
from tisslm.errors import ConfigError

__all__ = ["BESIDE_FROM", "FROM", "KEPT_WITH_FROM", "ModelSection"]

#: The key that names the model to start from. It has its shape; these are what may be others.
FROM = "from"
BESIDE_FROM = ("seq_len", "dropout")
#: All that may stand beside it, with what makes an encoder of a language model.
KEPT_WITH_FROM = (*BESIDE_FROM, "pooling", "causal", *sorted(OF_VECTORS))


class _Section(Section):
    """What ``ModelSection`` has beside the keys of ``TransformerConfig``."""

    model_config = ConfigDict(extra="allow")
    section: ClassVar[str] = "model"
    #: Without a preset, all of these are needed.
    sizes: ClassVar[tuple[str, ...]] = ("n_layer", "n_head", "n_embd", "seq_len")

    family: Annotated[str | None, Field(min_length=1), Expects("a family's name")] = None
    preset: Annotated[str | None, Field(min_length=1), Expects("a preset's name")] = None

    @classmethod
    def is_open(cls, values: Mapping[str, Any]) -> bool:
        """Return True for a family that is not built in, which checks its keys itself."""
        return values.get("family", FAMILY) not in FAMILIES

    def given(self) -> dict[str, Any]:
        """Return the keys that were set.

        Raises
        ------
        ConfigError
            If there is no preset and only some of the sizes, or a key of the shape beside a model
            to start from.
        """
        found = self.model_dump(exclude_none=True)
        if FROM in found:
            others = [key for key in found if key not in (FROM, *KEPT_WITH_FROM)]
            if others:
                raise ConfigError(
                    f"model.{others[0]}: expected only {' and '.join(BESIDE_FROM)} beside "
                    f"model.{FROM}, which says the rest; leave out {', '.join(others)}, or {FROM}"
                )
            return found
        if self.is_open(found):
            for key, value in found.items():
                check_plain(f"model.{key}", value)
            return found
        missing = [key for key in self.sizes if key not in found]
        if "preset" not in found and missing:
            raise ConfigError(
                f"model.{missing[0]}: not set; give model.preset, or all of {', '.join(self.sizes)}"
            )
        return found


def _optional() -> dict[str, Any]:
    """Return the fields of ``ShapeKeys``, each of which may be left out."""
    path = Annotated[str | None, Field(min_length=1), Expects("a path")]
    fields: dict[str, Any] = {FROM: (path, None)}  # which no class body can say
    for name, info in ShapeKeys.model_fields.items():
        if name == "family":
            continue
        said = [item for item in info.metadata if isinstance(item, Expects)]
        inner: Any = info.annotation
        for item in info.metadata:
            inner = Annotated[inner, item]
        fields[name] = (Annotated[inner | None, said[-1]], None)
    return fields


ModelSection = create_model(
    "ModelSection",
    __base__=_Section,
    __module__=__name__,
    __doc__="""The section ``[model]``: a family or preset, and keys of the shape, all optional.

    What the keys mean is documented at ``TransformerConfig``; ``from`` is the path of a run, a
    checkpoint, a folder of Hugging Face transformers or a GGUF file. A family that is not built in
    has keys of its own.
    """,
    **_optional(),
)
