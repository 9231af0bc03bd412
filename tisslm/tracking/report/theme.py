"""Colours and line styles, for light and for dark pages.

A figure is drawn once, in the colours of the light page; each of them is a name, too, which the
page's style sheet gives another value in the dark.

What does not live here: the page's layout (``page.css``).
"""

from __future__ import annotations

__all__ = ["COLORS", "DASHES", "LIGHT", "MARKERS", "color_of", "style_sheet"]

#: Names: light, dark. Against their backgrounds, lines and text have a contrast of 4.5 at least.
_PALETTE = {
    "paper": ("#fdfdfe", "#12161c"),
    "ink": ("#1c2129", "#e4e9ef"),
    "muted": ("#596270", "#a3adb9"),
    "rule": ("#d5dbe3", "#343c47"),
    "c0": ("#0a5cad", "#74b6ff"),
    "c1": ("#b04f00", "#f3a553"),
    "c2": ("#1a774a", "#5bcb8f"),
    "c3": ("#7a48d1", "#bd9cf8"),
    "c4": ("#c4232c", "#ff8078"),
    "c5": ("#0b6f82", "#52cadb"),
    "c6": ("#75501f", "#d0ab80"),
    "c7": ("#ae257b", "#f492c3"),
    "f0": ("#a5c4e4", "#46688e"),
    "f1": ("#e6c3a0", "#805b33"),
    "f2": ("#a6d3bb", "#3a7053"),
}

LIGHT = {name: light for name, (light, _) in _PALETTE.items()}
COLORS = tuple(light for name, light in LIGHT.items() if name.startswith("c"))
_FAINT = tuple(light for name, light in LIGHT.items() if name.startswith("f"))

#: So that lines are told apart without colours, too.
DASHES: tuple[tuple[float, ...], ...] = ((), (5, 2), (1.5, 1.5), (7, 2, 1.5, 2), (3, 1.5))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")


def color_of(number: int, *, faint: bool = False) -> str:
    """Return the colour of a line."""
    palette = _FAINT if faint else COLORS
    return palette[number % len(palette)]


def style_sheet() -> str:
    """Return the style rules that give the names their colours on screen and on paper."""
    light, dark = (
        "".join(f"--{name}:{pair[side]};" for name, pair in _PALETTE.items()) for side in (0, 1)
    )
    screen = "@media screen and (prefers-color-scheme:dark)"
    return f":root{{color-scheme:light dark;{light}}}{screen}{{:root{{{dark}}}}}"
