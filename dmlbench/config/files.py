"""Find the shipped configuration files and list them. Needs neither Hydra nor torch."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from dmlbench.errors import UserError

# Argument of `dmlbench list`, and the directory of `conf/` that it lists.
GROUPS = {
    "losses": "loss",
    "datasets": "dataset",
    "trunks": "trunk",
    "protocols": "protocol",
    "samplers": "sampler",
    "optimizers": "optimizer",
    "sweeps": "sweep",
    "launchers": "hydra/launcher",
}


@cache
def conf_dir() -> Path:
    """Return the directory of the shipped configuration: inside the installed package, or at the top of a checkout.

    Raises:
        UserError: There is none.
    """
    package = Path(__file__).resolve().parents[1]
    for directory in (package / "conf", package.parent / "conf"):
        if (directory / "config.yaml").is_file():
            return directory
    raise UserError(f"{package} has no directory conf with config.yaml; reinstall dmlbench")


def entries(group: str, config_dir: Path | None = None) -> Iterator[tuple[str, str]]:
    """List the files of a configuration group.

    Args:
        group: A directory of `conf/`, such as `loss`.
        config_dir: Directory of the user's own configuration files, whose names differ from those of the shipped files.

    Yields:
        Name on the command line and first paragraph of the opening comment of every file, sorted by name.
    """
    files: dict[str, Path] = {}
    for directory in (conf_dir(), *([config_dir] if config_dir else [])):
        files |= {file.stem: file for file in (directory / group).glob("*.yaml")}
    for name in sorted(files):
        yield name, _opening_comment(files[name])


def refuse_hidden(config_dir: Path) -> None:
    """Refuse a file of the user with the name of a shipped file, because Hydra would use the shipped file without a warning.

    Args:
        config_dir: Directory of the user's own configuration files.

    Raises:
        UserError: Names the first such file.
    """
    for file in sorted(conf_dir().rglob("*.yaml")):
        own = config_dir / file.relative_to(conf_dir())
        if own.is_file() and not own.samefile(file):
            raise UserError(f"{own} has the name of a file of dmlbench, which would be used instead; rename it")


def _opening_comment(file: Path) -> str:
    """The first paragraph of the opening comment of a file, up to its example command."""
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        text = line.removeprefix("#").removeprefix(" ")
        if line.startswith("# @package"):
            continue
        if not line.startswith("#") or text.startswith("  dmlbench"):
            break
        lines.append(text.strip())
    return " ".join(lines)
