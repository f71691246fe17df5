"""SVG elements, with all text escaped. Colours are classes of `static/report.css`, which follow the colour scheme."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

N_COLOURS = 7  # classes c0 to c6; `base` is the class of baselines
# Outlines of markers around (0, 0), about 9 units wide.
_MARKERS = (
    "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z",  # circle
    "M-4 -4h8v8h-8z",  # square
    "M0 -5.5l5.5 5.5l-5.5 5.5l-5.5 -5.5z",  # diamond
    "M0 -5l5 9h-10z",  # triangle
    "M0 5l5 -9h-10z",  # triangle that points down
    "M-1.7 -5h3.4v3.3h3.3v3.4h-3.3v3.3h-3.4v-3.3h-3.3v-3.4h3.3z",  # plus
    "M0 -5.5l1.5 3.7h4l-3.2 2.6l1.2 4.2l-3.5 -2.5l-3.5 2.5l1.2 -4.2l-3.2 -2.6h4z",  # star
    "M-5 0l2.5 -4.5h5l2.5 4.5l-2.5 4.5h-5z",  # hexagon
)
_DASHES = (None, "6 3", "2 3", "8 3 2 3", "12 4")


def element(tag: str, *children: str, **attributes: object) -> Markup:
    """Return an element.

    Args:
        tag: Name of the element.
        children: Text, which is escaped, or markup.
        attributes: Attributes; `_` becomes `-`, and `class_` is `class`. Numbers have at most one decimal; None is left out.

    >>> element("text", "a < b", x=1.25, text_anchor="end")
    Markup('<text x="1.2" text-anchor="end">a &lt; b</text>')
    """
    written = Markup("").join(
        Markup(' {}="{}"').format(name.rstrip("_").replace("_", "-"), number(value) if isinstance(value, float) else value)
        for name, value in attributes.items()
        if value is not None
    )
    inside = Markup("").join(map(escape, children))
    return Markup(f"<{tag}{written}>{inside}</{tag}>") if inside else Markup(f"<{tag}{written}/>")


def number(value: float) -> str:
    """Format a coordinate with at most one decimal.

    Args:
        value: Coordinate.

    >>> number(3.0), number(0.26), number(-0.01)
    ('3', '0.3', '0')
    """
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def picture(width: float, height: float, title: str, *children: str, **attributes: object) -> Markup:
    """Return a picture that scales with the page; screen readers read its title.

    Args:
        width: Width in its own units, which are pixels at its natural size.
        height: Height.
        title: What it shows, a sentence.
        children: Elements.
        attributes: Further attributes.
    """
    box = f"0 0 {number(width)} {number(height)}"
    size = {"viewBox": box, "width": float(width), "height": float(height)}
    return element("svg", *children, **size, role="img", aria_label=title, **attributes)


def text(x: float, y: float, content: str, anchor: str = "start", class_: str | None = None) -> Markup:
    """Return text whose baseline is at a point.

    Args:
        x: Horizontal coordinate.
        y: Vertical coordinate.
        content: Text.
        anchor: `start`, `middle` or `end`.
        class_: Class of the style sheet.
    """
    return element("text", content, x=float(x), y=float(y), text_anchor=None if anchor == "start" else anchor, class_=class_)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """Return a straight line.

    Args:
        x1: Horizontal coordinate of its start.
        y1: Vertical coordinate of its start.
        x2: Horizontal coordinate of its end.
        y2: Vertical coordinate of its end.
        class_: Class of the style sheet.
    """
    return path([(x1, y1), (x2, y2)], class_)


def path(points: Sequence[tuple[float, float]], class_: str, dashes: str | None = None) -> Markup:
    """Return a line through points.

    Args:
        points: Points, at least one.
        class_: Class of the style sheet.
        dashes: Lengths of dashes and gaps; None for a solid line.
    """
    steps = "L".join(f"{number(x)} {number(y)}" for x, y in points)
    return element("path", d=f"M{steps}", class_=f"line {class_}", stroke_dasharray=dashes)


def marker(x: float, y: float, index: int, class_: str, filled: bool = True) -> Markup:
    """Return the marker of a method.

    Args:
        x: Horizontal coordinate of its centre.
        y: Vertical coordinate of its centre.
        index: Number of the method, which chooses the shape.
        class_: Class of the colour.
        filled: Whether the shape is filled.
    """
    place = f"translate({number(x)} {number(y)})"
    return element(
        "path", d=_MARKERS[index % len(_MARKERS)], transform=place, class_=f"{class_} {'full' if filled else 'open'}"
    )


def dashes(index: int) -> str | None:
    """Return the dashes of the line of a method; the first methods, one per colour, have solid lines.

    Args:
        index: Number of the method.
    """
    return _DASHES[index // N_COLOURS % len(_DASHES)]


def with_hint(hint: str, *children: str, **attributes: object) -> Markup:
    """Return a group whose text appears when the pointer is over it.

    Args:
        hint: Text.
        children: Elements.
        attributes: Attributes of the group.
    """
    return element("g", element("title", hint), *children, **attributes)
