"""Draw the pictures of one run: queries with their nearest images, and a projection of some classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dmlbench.errors import UserError
from dmlbench.pictures.labels import shortened
from dmlbench.pictures.neighbours import Neighbours, nearest
from dmlbench.pictures.projection import Projection
from dmlbench.pictures.queries import Query
from dmlbench.pictures.saved_embeddings import SavedEmbeddings
from dmlbench.pictures.scatter import draw_projection, legend_height, sentence
from dmlbench.pictures.sheet import MUTED, TEXT, TILE_PX, SheetRow, Tile, draw_sheet, sheet_size
from dmlbench.pictures.thumbnails import View, thumbnail
from dmlbench.results.formatting import metric_label
from dmlbench.results.run_images import RunImages
from dmlbench.tables.pictures import figure_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCORE = "map_at_r"  # by which queries are chosen
QUERIES, PROJECTION = "queries.png", "projection.png"  # files in a directory of pictures
_MARGIN, _TITLE, _NOTE, _PROJECTION, _AXIS = 0.3, 0.42, 0.5, 4.1, 0.35  # heights in inches; _AXIS is that of its label
_PROJECTION_WIDTH, _TITLE_CHARACTERS = 9.3, 90


@dataclass(frozen=True, eq=False)
class Pictures:
    """What is drawn of a run, or of a file of embeddings.

    Args:
        title: Name of the run.
        rows: Queries with their nearest images; may be empty.
        about_rows: A sentence about these images.
        projection: Projection of some classes; None if none is drawn.
        names: Names of the classes, by label.
    """

    title: str
    rows: Sequence[SheetRow]
    about_rows: str
    projection: Projection | None
    names: Mapping[int, str]


def sheet_rows(
    chosen: Sequence[Query],
    embeddings: SavedEmbeddings,
    images: RunImages | None,
    names: Mapping[int, str],
    view: View,
    k: int = 5,
) -> list[tuple[Neighbours, SheetRow]]:
    """Find the nearest images of some queries, and read all images.

    Args:
        chosen: Queries.
        embeddings: Embeddings of the run.
        images: Files of the images; None if they are not known.
        names: Names of the classes, by label.
        view: Part of each image to show.
        k: Number of nearest images.

    Returns:
        The nearest images of each query, and what is drawn of them.
    """
    found = []
    for query in chosen:
        near = nearest(embeddings, query.id, k)
        tiles = [Tile(thumbnail(images, query.id, view, TILE_PX), _name(names, near.label), f"id {query.id}")]
        for image_id, label, score, relevant in zip(near.ids, near.labels, near.scores, near.relevant, strict=True):
            shown = thumbnail(images, int(image_id), view, TILE_PX)
            tiles.append(Tile(shown, _name(names, int(label)), f"{score:.3f}", bool(relevant)))
        found.append((near, SheetRow(query.kind, _details(query, near), tiles)))
    return found


def _name(names: Mapping[int, str], label: int) -> str:
    return names.get(label) or f"class {label}"


def _details(query: Query, near: Neighbours) -> list[str]:
    score = "not scored" if query.score is None else f"{metric_label(SCORE)} {query.score:.1%}".replace("%", " %")
    lines = [score, f"{int(near.relevant.sum())} of {len(near.ids)} correct", f"{near.n_relevant:,} relevant in total"]
    return [*lines, f"+ {near.n_tied:,} tied"] if near.n_tied else lines


def draw(pictures: Pictures, out: Path) -> list[Path]:
    """Draw into one file, or into the files `QUERIES` and `PROJECTION` of a directory.

    Args:
        pictures: What to draw.
        out: File with one of the suffixes of pictures, or a directory, which is created.

    Returns:
        The files that were written.

    Raises:
        UserError: There is nothing to draw.
    """
    parts = [bool(pictures.rows), pictures.projection is not None]
    if not any(parts):
        raise UserError("there is nothing to draw: neither queries nor a projection")
    if out.suffix:
        _draw_file(pictures, out, *parts)
        return [out]
    out.mkdir(exist_ok=True)
    files = []
    for name, queries in ((QUERIES, True), (PROJECTION, False)):
        if parts[0 if queries else 1]:
            _draw_file(pictures, out / name, queries, not queries)
            files.append(out / name)
    return files


def _draw_file(pictures: Pictures, file: Path, queries: bool, projection: bool) -> None:
    from matplotlib.text import Text

    sheet = sheet_size(pictures.rows) if queries else (0.0, 0.0)
    wide = max(sheet[0] if queries else 0.0, _PROJECTION_WIDTH if projection else 0.0) + 2 * _MARGIN
    scatter = 0.0
    if projection and pictures.projection is not None:
        scatter = max(_PROJECTION, legend_height(pictures.projection, pictures.names))
    high = _MARGIN + _TITLE + (sheet[1] + _NOTE if queries else 0) + (scatter + _AXIS + _NOTE if scatter else 0)
    with figure_file(file, (wide, high), layout=None) as figure:
        figure.suppressComposite = True  # one image per tile; merging them takes quadratic time in SVG and PDF
        canvas = _Canvas(figure, wide, high)
        canvas.text(shortened(pictures.title, _TITLE_CHARACTERS), 12, TEXT, _TITLE, weight="bold")
        if queries:
            axes = figure.add_axes(canvas.area(*sheet))
            draw_sheet(axes, pictures.rows)
            signs = "Green frame with a tick: class of the query. Dashed red frame with a cross: another class."
            canvas.text(f"{signs} {pictures.about_rows}", 7.5, MUTED, _NOTE)
        if scatter and pictures.projection is not None:
            axes = figure.add_axes(canvas.area(0.66 * (wide - 2 * _MARGIN), scatter, indent=0.2))
            draw_projection(axes, pictures.projection, pictures.names)
            canvas.below -= _AXIS
            canvas.text(sentence(pictures.projection), 7.5, MUTED, _NOTE)
        for text in figure.findobj(Text):
            text.set(parse_math=False)  # a name may contain dollar signs


class _Canvas:
    """Places parts below each other, in inches."""

    def __init__(self, figure: Figure, wide: float, high: float) -> None:
        self.figure, self.wide, self.high = figure, wide, high
        self.below = high - _MARGIN  # upper edge of the next part, from the bottom

    def area(self, wide: float, high: float, indent: float = 0.0) -> tuple[float, float, float, float]:
        """Return the next area in fractions of the figure."""
        self.below -= high
        return ((_MARGIN + indent) / self.wide, self.below / self.high, wide / self.wide, high / self.high)

    def text(self, text: str, size: float, colour: str, high: float, weight: str = "normal") -> None:
        """Write one line at the left edge."""
        x, y = _MARGIN / self.wide, (self.below - 0.06) / self.high
        self.figure.text(x, y, text, fontsize=size, color=colour, va="top", fontweight=weight)
        self.below -= high
