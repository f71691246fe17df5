"""Draw queries, each with its nearest images, on one sheet. A tick or a cross says what a green or red frame says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dmlbench.pictures.labels import shortened, wrapped
from dmlbench.pictures.thumbnails import Thumbnail

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

RIGHT, WRONG, QUERY = "#1a7f37", "#c4161c", "#24292f"
TEXT, MUTED, EMPTY = "#1f2328", "#59636e", "#f0f1f3"
# Sizes in inches.
TILE, GAP, LABEL, HEAD, LINE, ROW_GAP = 1.12, 0.17, 1.18, 0.28, 0.115, 0.31
_SIGN = 0.115  # radius
TILE_PX = 146  # of an image, with 130 pixels per inch
_CHARACTERS, _LINES = 17, 3  # of a caption


@dataclass(frozen=True)
class Tile:
    """One image of a sheet, with what is printed below it.

    Args:
        thumbnail: The image.
        name: Name of its class.
        detail: Another line, such as its score.
        relevant: Whether it has the class of the query; None for the query itself.
    """

    thumbnail: Thumbnail
    name: str
    detail: str = ""
    relevant: bool | None = None


@dataclass(frozen=True)
class SheetRow:
    """One query and its nearest images.

    Args:
        title: How the query was chosen.
        details: Short lines about the query.
        tiles: The query, then its nearest images.
    """

    title: str
    details: Sequence[str]
    tiles: Sequence[Tile]


def sheet_size(rows: Sequence[SheetRow]) -> tuple[float, float]:
    """Return width and height of a sheet in inches.

    Args:
        rows: What is drawn.
    """
    columns = max(len(row.tiles) for row in rows)
    return LABEL + columns * (TILE + GAP) + GAP, HEAD + len(rows) * _row_height(rows)


def _row_height(rows: Sequence[SheetRow]) -> float:
    """Return the height of every row: that of the longest caption."""
    lines = max(_caption(tile).count("\n") + 2 for row in rows for tile in row.tiles)
    return TILE + lines * LINE + ROW_GAP


def _caption(tile: Tile) -> str:
    return wrapped(tile.name, _CHARACTERS, _LINES)


def draw_sheet(axes: Axes, rows: Sequence[SheetRow]) -> None:
    """Draw queries with their nearest images.

    Args:
        axes: Axes without frame, of the size `sheet_size`.
        rows: What is drawn, from top to bottom.
    """
    (wide, high), high_row = sheet_size(rows), _row_height(rows)
    axes.set(xlim=(0, wide), ylim=(high, 0), aspect="equal")
    axes.axis("off")
    for column in range(max(len(row.tiles) for row in rows)):
        head = "query" if column == 0 else f"{column}"
        axes.text(_left(column) + TILE / 2, HEAD - 0.1, head, ha="center", va="bottom", fontsize=8.5, color=MUTED)
    for number, row in enumerate(rows):
        top = HEAD + number * high_row
        axes.text(0.02, top + 0.02, row.title, ha="left", va="top", fontsize=10, fontweight="bold", color=TEXT)
        details = "\n".join(row.details)
        axes.text(0.02, top + 0.25, details, ha="left", va="top", fontsize=7.5, color=MUTED, linespacing=1.45)
        for column, tile in enumerate(row.tiles):
            _draw_tile(axes, _left(column), top, tile)


def _left(column: int) -> float:
    """The left edge of a column; the query is further away from the others."""
    return LABEL + column * (TILE + GAP) + (GAP if column else 0)


def _draw_tile(axes: Axes, left: float, top: float, tile: Tile) -> None:
    colour = QUERY if tile.relevant is None else RIGHT if tile.relevant else WRONG
    _draw_square(axes, left, top, facecolor=EMPTY, edgecolor="none", zorder=1)
    if tile.thumbnail.pixels is None:
        _draw_placeholder(axes, left, top, tile.thumbnail)
    else:
        _draw_image(axes, left, top, tile.thumbnail.pixels)
    frame: dict[str, Any] = {"fill": False, "linewidth": 2.6, "zorder": 3}
    if tile.relevant is False:
        _draw_square(axes, left, top, edgecolor="white", **frame)
        frame["linestyle"] = (0, (3, 1.2))
    _draw_square(axes, left, top, edgecolor=colour, **frame)
    if tile.relevant is not None:
        _draw_sign(axes, left + TILE, top, tile.relevant)
    middle = left + TILE / 2
    name = _caption(tile)
    axes.text(middle, top + TILE + 0.06, name, ha="center", va="top", fontsize=7, color=TEXT, linespacing=1.1)
    if tile.detail:
        below = top + TILE + 0.19 + LINE * name.count("\n")
        axes.text(middle, below, tile.detail, ha="center", va="top", fontsize=6.5, color=MUTED)


# Artists are added without the methods of Axes that also compute limits, which would take most of the time.


def _draw_square(axes: Axes, left: float, top: float, **style: Any) -> None:
    from matplotlib.patches import Rectangle

    axes.add_artist(Rectangle((left, top), TILE, TILE, **style))


def _draw_image(axes: Axes, left: float, top: float, pixels: np.ndarray) -> None:
    from matplotlib.image import AxesImage

    high, wide = (TILE * side / max(pixels.shape[:2]) for side in pixels.shape[:2])
    x, y = left + (TILE - wide) / 2, top + (TILE - high) / 2
    image = AxesImage(axes, extent=(x, x + wide, y + high, y), origin="upper", interpolation="antialiased", zorder=2)
    image.set_data(pixels)
    axes.add_artist(image)


def _draw_placeholder(axes: Axes, left: float, top: float, thumbnail: Thumbnail) -> None:
    _draw_square(axes, left, top, facecolor="none", edgecolor="#d5d9de", linewidth=0, hatch="////", zorder=1.5)
    box: dict[str, Any] = {"facecolor": EMPTY, "edgecolor": "none", "pad": 2}
    style: dict[str, Any] = {"ha": "center", "bbox": box, "zorder": 2}
    middle, centre = left + TILE / 2, top + TILE / 2 - 0.06
    axes.text(middle, centre, f"image\n{thumbnail.problem}", va="center", fontsize=8, fontstyle="italic", color=TEXT, **style)
    if thumbnail.path is not None:
        name = shortened(thumbnail.path.rpartition("/")[2], _CHARACTERS)
        axes.text(middle, top + TILE - 0.1, name, va="bottom", fontsize=6, color=MUTED, **style)


def _draw_sign(axes: Axes, x: float, y: float, relevant: bool) -> None:
    """Draw a tick or a cross on the corner of a frame. Both are lines, so that no font needs to have them."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Circle

    colour = RIGHT if relevant else WRONG
    axes.add_artist(Circle((x, y), _SIGN, facecolor=colour, edgecolor="white", linewidth=1.2, zorder=4, clip_on=False))
    s = _SIGN * 0.45
    tick, cross = [(-s, 0.0), (-s / 4, s * 0.8), (s * 1.1, -s * 0.8)], [[(-s, -s), (s, s)], [(-s, s), (s, -s)]]
    for stroke in [tick] if relevant else cross:
        line = Line2D([x + dx for dx, _ in stroke], [y + dy for _, dy in stroke], color="white", linewidth=1.6, zorder=5)
        line.set_solid_capstyle("round")
        line.set_clip_on(False)
        axes.add_artist(line)
