"""An SVG document of ours as a part of a page: no ids that collide, colours by name.

What does not live here: drawing (``canvas``), which sets what matplotlib has a setting for. It has
none for the font that the page chooses, for colours by name, and for the digits of coordinates.

References
----------
SVG 2, section 6.2 (the style attribute) and 9.3 (path data).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree

from tisslm.tracking.report.markup import Markup, tag
from tisslm.tracking.report.theme import LIGHT

__all__ = ["inline"]

#: Namespaces as an XML parser puts them before a name, and as a page writes them.
_PREFIXES = {"{http://www.w3.org/2000/svg}": "", "{http://www.w3.org/1999/xlink}": "xlink:"}

#: What matplotlib says of the document, and rules for all of it, which the page has.
_LEFT_OUT = ("metadata", "style")

#: A transform may scale: it keeps its digits.
_PLACES = ("d", "x", "y")
_DIGITS = re.compile(r"(-?\d+\.\d)\d+")
_ENDS = re.compile(r"\s{2,}")  # lines of path data, which end in a blank
_REFERENCE = re.compile(r"(?<=url\(#)[^)]+")

_NAMES = {color: f"var(--{name})" for name, color in LIGHT.items()}


def inline(document: str, slug: str, label: str, extra: str = "") -> Markup:
    """Return an SVG document as an element of a page.

    Parameters
    ----------
    document : str
        An SVG document of ``Canvas.as_svg``.
    slug : str
        A name that is put before its ids, which must be unique on the page.
    label : str
        A text for readers who do not see the figure.
    extra : str
        More classes of the element.
    """
    root = ElementTree.fromstring(document)
    _as_on_a_page(root)
    _leave_out(root)
    for element in root.iter():
        _shorten(element)
    _own_ids(root, slug)
    body = "".join(ElementTree.tostring(child, encoding="unicode") for child in root)
    return tag(
        "svg",
        Markup(body),
        viewBox=root.get("viewBox"),
        class_=f"plot {extra}".strip(),
        role="img",
        aria_label=label,
    )


def _as_on_a_page(root: ElementTree.Element) -> None:
    """Name elements and attributes as HTML does, without the blanks between elements."""
    for element in root.iter():
        element.tag = _page_name(element.tag)
        element.attrib = {_page_name(key): value for key, value in element.attrib.items()}
        if not (element.text or "").strip():
            element.text = None
        element.tail = None


def _page_name(name: str) -> str:
    for namespace, prefix in _PREFIXES.items():
        if name.startswith(namespace):
            return prefix + name.removeprefix(namespace)
    return name


def _leave_out(element: ElementTree.Element) -> None:
    """Drop what the page has no use for, and what is empty then."""
    for child in list(element):
        _leave_out(child)
        if child.tag in _LEFT_OUT or (child.tag == "defs" and not len(child)):
            element.remove(child)


def _shorten(element: ElementTree.Element) -> None:
    """Let the page choose fonts, name colours, and keep a tenth of a pixel and no blanks."""
    if "style" in element.attrib:
        element.set("style", "; ".join(f"{name}: {value}" for name, value in _page_style(element)))
    if element.tag == "image":  # base64 comes in lines
        element.set("xlink:href", "".join(element.attrib["xlink:href"].split()))
    for name in _PLACES:
        if name in element.attrib:
            element.set(name, _DIGITS.sub(r"\1", _ENDS.sub("", element.attrib[name]).strip()))


def _page_style(element: ElementTree.Element) -> Iterator[tuple[str, str]]:
    for declaration in element.attrib["style"].split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name == "font":
            yield "font-size", value.split()[0]
        elif name and name != "font-family":
            yield name, _NAMES.get(value, value)


def _own_ids(root: ElementTree.Element, slug: str) -> None:
    """Keep the ids that something refers to, with the slug before them."""
    used = {
        reference
        for element in root.iter()
        for name, value in element.attrib.items()
        for reference in ([value[1:]] if _is_link(name, value) else _REFERENCE.findall(value))
    }
    for element in root.iter():
        if element.attrib.get("id") not in used:
            element.attrib.pop("id", None)
        for name, value in element.attrib.items():
            if name == "id":
                element.set(name, f"{slug}-{value}")
            elif _is_link(name, value):
                element.set(name, f"#{slug}-{value[1:]}")
            else:
                element.set(name, _REFERENCE.sub(lambda match: f"{slug}-{match[0]}", value))


def _is_link(name: str, value: str) -> bool:
    return name == "xlink:href" and value.startswith("#")
