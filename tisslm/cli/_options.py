"""The options of several commands, each said once.

What sampling does is in ``tisslm.models.generation.sampling``, what settings mean in
``tisslm.config``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "ConfigFile",
    "MinP",
    "RepetitionPenalty",
    "Settings",
    "Temperature",
    "TopK",
    "TopP",
    "Weights",
]

ConfigFile = Annotated[
    Path | None,
    typer.Argument(metavar="CONFIG.toml", help="Left out: the run that comes with TissLM."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="May be given several times."),
]

Temperature = Annotated[
    float, typer.Option(help="0 takes the most probable token, more is bolder.")
]
TopK = Annotated[int, typer.Option(min=0, help="Only the k most probable; 0: all.")]
TopP = Annotated[float, typer.Option(help="Only those that together reach p; 1: all.")]
MinP = Annotated[
    float, typer.Option(help="Only those with this part of the largest probability; 0: all.")
]
RepetitionPenalty = Annotated[
    float, typer.Option(help="Above 1: tokens that were there become less probable.")
]
Weights = Annotated[
    str, typer.Option(metavar="fp32|bf16", help="bf16: a rounded copy, up to twice as fast.")
]
