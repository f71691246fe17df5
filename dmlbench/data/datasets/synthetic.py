"""Procedurally generated fine-grained images, for experiments without a download."""

from __future__ import annotations

import colorsys
import math
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from dmlbench.data.attributes import one_hot
from dmlbench.data.datasets.generated import generate_once, require_integer
from dmlbench.data.split import BOX, ROLES, Split
from dmlbench.data.split_rules import DRAWN_RULES, draw_roles, first_half_of_classes
from dmlbench.errors import UserError, suggest
from dmlbench.system.seeding import numpy_generator

VERSION = 2  # raised with every change to the pixels or to the choice of the images
OVERSAMPLING = 2  # images are drawn larger by this factor and then reduced, for smooth edges

SHAPES = {
    "triangle": 3,
    "square": 4,
    "pentagon": 5,
    "hexagon": 6,
    "star": -5,
    "cross": -4,
}  # number of corners; negative for notched shapes
COLOURS = {"red": 0.0, "orange": 0.09, "green": 0.33, "cyan": 0.5, "blue": 0.64, "magenta": 0.86}  # hues
PATTERNS = ("plain", "stripes", "checks", "dots")
SIZES = {"small": 0.24, "large": 0.34}  # radius, as a fraction of the image's side
PROPERTIES = {"shape": list(SHAPES), "colour": list(COLOURS), "pattern": list(PATTERNS), "size": list(SIZES)}
FIRST_HALF_NOTE = (
    "the first half of the classes are training classes, the others test classes; both have the same attribute values"
)


def synthetic(
    root: str,
    classes: int = 48,
    images_per_class: int = 24,
    image_px: int = 64,
    split_seed: int = 0,
    separate_queries: bool = False,
    split: str | None = None,
    groups: int | None = None,
) -> Split:
    """Generate images of one patterned shape on a cluttered background.

    A class is a combination of shape, colour, pattern and size; any two classes differ in at least two of the four. Position,
    rotation, small changes of size and hue, background, clutter and lighting vary within a class. The first half of the
    classes are training classes, the others test classes; both halves have the same attribute values.

    Groups consist of classes with similar shapes and patterns. They do not change the images.

    The split has one binary attribute for each value of the four properties that occurs, such as `shape::star`. They are
    true for every image, whatever the crop and the flip. Position and background vary within a class and are no attributes.

    Args:
        root: Directory of generated data sets. The images are written into it at the first call.
        classes: Number of classes, from 4 to 48 (all combinations that differ in two attributes).
        images_per_class: Number of images per class, from 2 to 1000.
        image_px: Side of the square images, from 16 to 512 pixels.
        split_seed: Seed of the choice of combinations, of every image and of the split.
        separate_queries: Whether the images of a test class alternate between query and gallery. Otherwise every test image
            is both.
        split: None: the first half of the classes are training classes. Others: see `split_rules`.
        groups: Number of groups of classes, from 2 to half of the classes. None for no groups.

    Returns:
        The split, with paths relative to `root`, boxes around the shapes, and attributes.

    Raises:
        UserError: An argument is not a whole number in its range, or the split is unknown.
    """
    require_integer("synthetic", "classes", classes, 4, len(_combinations()))
    require_integer("synthetic", "images_per_class", images_per_class, 2, 1000)
    require_integer("synthetic", "image_px", image_px, 16, 512)
    require_integer("synthetic", "split_seed", split_seed, 0, 2**63 - 1)
    if groups is not None:
        require_integer("synthetic", "groups", groups, 2, classes // 2)
    if split is not None and split not in DRAWN_RULES:
        raise UserError(f"dataset.split is '{split}'{suggest(split, DRAWN_RULES)}")
    sizes = {"classes": classes, "images_per_class": images_per_class, "image_px": image_px, "split_seed": split_seed}
    generate = partial(_generate, sizes=sizes)
    folder, listing = generate_once(Path(root), "synthetic", {"version": VERSION, **sizes}, generate)
    frame = pd.DataFrame(
        {
            "path": f"{folder}/" + listing["path"],
            "label": listing["label"].astype(np.int64),
            "class_name": listing[list(PROPERTIES)].agg(" ".join, axis=1),
            **dict.fromkeys(ROLES, False),
            **{side: listing[side].astype(float) for side in BOX},
        }
    )
    if groups is not None:
        frame["group"] = _groups(frame["label"], listing, groups)
    frame, note = frame.assign(**first_half_of_classes(frame)), FIRST_HALF_NOTE
    if split is not None:
        frame, note = draw_roles(split, frame, split_seed)
    if separate_queries:
        is_even = frame.groupby("label").cumcount() % 2 == 0  # position of the image in its class
        frame = frame.assign(query=frame["query"] & is_even, gallery=frame["gallery"] & ~is_even)
    group_kind = None if groups is None else "similar shapes"
    attributes = one_hot(listing, PROPERTIES)
    return Split(frame, Path(root), notes=(note,), origin="generated", group_kind=group_kind, attributes=attributes)


def _groups(labels: pd.Series, listing: pd.DataFrame, groups: int) -> pd.Series:
    """Return the group of each image: classes in the order of shape, pattern and size, in groups of about equal size."""
    classes = listing[~labels.duplicated()]
    ranks = [classes[name].map(PROPERTIES[name].index) for name in ("shape", "pattern", "size")]
    ordered = labels[classes.index].to_numpy()[np.lexsort(ranks[::-1])]
    parts = enumerate(np.array_split(ordered, groups), start=1)
    return labels.map({label: f"group {number}" for number, part in parts for label in part})


def _combinations() -> list[tuple[str, str, str, str]]:
    """Return the 48 combinations. Shape, pattern and size determine the colour, so any two differ in at least two of four."""
    shapes, colours, sizes = list(SHAPES), list(COLOURS), list(SIZES)
    return [
        (shapes[s], colours[(s + p + 3 * z) % len(colours)], PATTERNS[p], sizes[z])
        for s, p, z in product(range(len(shapes)), range(len(PATTERNS)), range(len(sizes)))
    ]


def _generate(folder: Path, sizes: dict[str, int]) -> pd.DataFrame:
    split_seed = sizes["split_seed"]
    chosen = numpy_generator(split_seed, "synthetic classes").permutation(len(_combinations()))[: sizes["classes"]]
    lines = []
    for label, index in enumerate(chosen):
        combination = _combinations()[index]
        (folder / f"{label:03d}").mkdir()
        for number in range(sizes["images_per_class"]):
            path = f"{label:03d}/{number:03d}.png"
            generator = numpy_generator(split_seed, "synthetic image", label, number)
            image, box = _draw(combination, sizes["image_px"], generator)
            image.save(folder / path)
            lines.append((path, label, *combination, *box))
    return pd.DataFrame(lines, columns=["path", "label", *PROPERTIES, *BOX])


def _draw(
    combination: tuple[str, str, str, str], image_px: int, generator: np.random.Generator
) -> tuple[Image.Image, tuple[float, float, float, float]]:
    """Draw one image, and return it with its box (x, y, width, height, in pixels)."""
    shape, colour, pattern, size = combination
    side = image_px * OVERSAMPLING
    radius = SIZES[size] * side * generator.uniform(0.93, 1.07)
    centre = generator.uniform(radius, side - radius, 2)
    rotation = generator.uniform(0, 2 * math.pi)
    corners = _corners(SHAPES[shape], centre, radius, rotation)
    mask = Image.new("L", (side, side))
    ImageDraw.Draw(mask).polygon(corners, fill=255)
    hue = COLOURS[colour] + generator.uniform(-0.015, 0.015)
    surface = _surface(pattern, hue, side, SIZES[size] * side, centre, rotation)
    canvas = _background(side, generator)
    canvas.paste(surface, mask=mask)
    small = canvas.resize((image_px, image_px), Image.Resampling.BOX)
    return _with_lighting(small, generator), _box(corners)


def _corners(kind: int, centre: np.ndarray, radius: float, rotation: float) -> list[tuple[float, float]]:
    """Return the corners of a regular polygon, or of a star, which has additional corners at a smaller radius in between."""
    count = abs(kind) * (2 if kind < 0 else 1)
    inner = 0.45 if kind < 0 else 1.0
    corners = []
    for corner in range(count):
        distance = radius * (inner if corner % 2 and kind < 0 else 1.0)
        angle = rotation + 2 * math.pi * corner / count
        corners.append((float(centre[0] + distance * math.cos(angle)), float(centre[1] + distance * math.sin(angle))))
    return corners


def _box(corners: list[tuple[float, float]]) -> tuple[float, float, float, float]:
    xs, ys = zip(*((x / OVERSAMPLING, y / OVERSAMPLING) for x, y in corners), strict=True)
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def _surface(pattern: str, hue: float, side: int, scale: float, centre: np.ndarray, rotation: float) -> Image.Image:
    """Fill a square with two shades of a hue, in a pattern that rotates with the shape."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    u = ((x - centre[0]) * math.cos(rotation) + (y - centre[1]) * math.sin(rotation)) / scale * 3
    v = ((y - centre[1]) * math.cos(rotation) - (x - centre[0]) * math.sin(rotation)) / scale * 3
    is_dark = {
        "plain": lambda: np.zeros_like(u, dtype=bool),
        "stripes": lambda: np.floor(u) % 2 == 1,
        "checks": lambda: (np.floor(u) + np.floor(v)) % 2 == 1,
        "dots": lambda: (u - np.round(u)) ** 2 + (v - np.round(v)) ** 2 < 0.09,
    }[pattern]()
    shades = [colorsys.hsv_to_rgb(hue % 1, saturation, value) for saturation, value in ((0.75, 0.95), (0.9, 0.4))]
    light, dark = (np.round(np.array(shade) * 255).astype(np.uint8) for shade in shades)
    return Image.fromarray(np.where(is_dark[..., None], dark, light))


def _background(side: int, generator: np.random.Generator) -> Image.Image:
    """Draw a gradient between two random colours, with random polygons and lines on top."""
    start, end = generator.uniform(30, 225, (2, 3))
    angle = generator.uniform(0, 2 * math.pi)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side - 0.5
    weight = np.clip(x * math.cos(angle) + y * math.sin(angle) + 0.5, 0, 1)[..., None]
    image = Image.fromarray(np.round(start * (1 - weight) + end * weight).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        colour = tuple(int(value) for value in generator.integers(20, 236, 3))
        middle, radius = generator.uniform(0, side, 2), generator.uniform(0.08, 0.2) * side
        draw.polygon(_corners(int(generator.integers(3, 7)), middle, radius, generator.uniform(0, 6)), fill=colour)
        ends = [float(value) for value in generator.uniform(0, side, 4)]
        draw.line(ends, fill=colour, width=max(side // 60, 1))
    return image


def _with_lighting(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Change brightness, contrast and colour balance, and add noise."""
    pixels = (np.asarray(image, dtype=np.float64) - 128) * generator.uniform(0.7, 1.2) + 128 + generator.uniform(-25, 25)
    pixels = pixels * generator.uniform(0.94, 1.06, 3) + generator.normal(0, 5, pixels.shape)
    return Image.fromarray(np.clip(np.round(pixels), 0, 255).astype(np.uint8))
