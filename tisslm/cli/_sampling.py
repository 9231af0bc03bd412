"""The options of commands that draw tokens, each said once.

What they do is in ``tisslm.models.generation.sampling``.
"""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["MinP", "RepetitionPenalty", "Temperature", "TopK", "TopP", "Weights"]

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
