"""An SVG document of ours as a part of a page: no ids that collide, colours by name.

Only for what ``canvas`` has drawn; it is no parser of SVG.

What does not live here: drawing.
"""

from __future__ import annotations

import re

from tisslm.tracking.report.markup import Markup, tag
from tisslm.tracking.report.theme import LIGHT

__all__ = ["inline"]

_STYLE = re.compile(r'style="[^"]*"')
_POINTS = re.compile(r' d="[^"]*"')
_PLACES = re.compile(r' [xy]="[^"]*"')  # a transform may scale: it keeps its digits
_LONG = re.compile(r"(-?\d+\.\d)\d+")
_FONT = re.compile(r"\s*font-family: [^;\"]*;?|\s*font: (?P<size>[\d.]+px) [^;\"]*;?")
_IDS = re.compile(r' id="([^"]*)"')
_USED = re.compile(r'(?:url\(#|href="#)([^)"]+)')
_NAMES = {color: f"var(--{name})" for name, color in LIGHT.items()}


def inline(document: str, slug: str, label: str, extra: str = "") -> Markup:
    """Return an SVG document as an element of a page.

    Parameters
    ----------
    document : str
        As ``Canvas.as_svg`` returns it.
    slug : str
        What makes its ids unique on the page.
    label : str
        What it shows, for those who do not see it.
    extra : str
        More classes of the element.
    """
    text = document[document.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    view = re.search(r'viewBox="([^"]*)"', text)
    body = text[text.index(">") + 1 : text.rindex("</svg>")]
    body = re.sub(r"\s*\n\s*", "", body)
    body = _STYLE.sub(_page_style, body)
    body = _POINTS.sub(lambda m: _LONG.sub(r"\1", m[0]), body)
    body = _PLACES.sub(lambda m: _LONG.sub(r"\1", m[0]), body)
    return tag(
        "svg",
        Markup(_own_ids(body, slug)),
        viewBox=view[1] if view else None,
        class_=f"plot {extra}".strip(),
        role="img",
        aria_label=label,
    )


def _page_style(match: re.Match[str]) -> str:
    """Let the page choose fonts, and give colours their names."""
    style = _FONT.sub(lambda m: f" font-size: {m['size']};" if m["size"] else "", match[0])
    for color, name in _NAMES.items():
        style = style.replace(color, name)
    return style


def _own_ids(body: str, slug: str) -> str:
    """Keep the ids that something refers to, with the slug before them."""
    used = set(_USED.findall(body))
    body = _IDS.sub(lambda m: f' id="{slug}-{m[1]}"' if m[1] in used else "", body)
    return _USED.sub(lambda m: m[0][: -len(m[1])] + f"{slug}-{m[1]}", body)
