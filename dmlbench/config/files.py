"""Where the shipped configuration lies, and what stands in it; needs neither Hydra nor torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dmlbench.errors import UserError

# The word after `dmlbench list`, and the folder it stands for.
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


def conf_dir() -> Path:
    """The folder of the shipped configuration: inside the installed package, or at the top of a checkout."""
    package = Path(__file__).resolve().parents[1]
    for place in (package / "conf", package.parent / "conf"):
        if (place / "config.yaml").is_file():
            return place
    raise UserError(f"no configuration beside {package}; install dmlbench anew")


def entries(group: str, config_dir: Path | None = None) -> Iterator[tuple[str, str]]:
    """What a configuration group offers.

    Args:
        group: a folder of `conf/`, such as `loss`.
        config_dir: a folder of the user's own configurations; none has the name of one of ours.

    Yields:
        The word on the command line, and the first sentence of the file's opening comment; in the order of words.
    """
    files: dict[str, Path] = {}
    for place in (conf_dir(), *([config_dir] if config_dir else [])):
        files |= {file.stem: file for file in (place / group).glob("*.yaml")}
    for name in sorted(files):
        yield name, _opening(files[name])


def refuse_hidden(config_dir: Path) -> None:
    """Refuse a file of the user's own that has the name of a shipped one: Hydra would take ours without a word.

    Args:
        config_dir: a folder of the user's own configurations.

    Raises:
        UserError: names the file.
    """
    for file in sorted(conf_dir().rglob("*.yaml")):
        own = config_dir / file.relative_to(conf_dir())
        if own.is_file() and not own.samefile(file):
            raise UserError(f"{own} has the name of a file of dmlbench, which would be taken instead; give it another name")


def _opening(file: Path) -> str:
    """The first paragraph of a file's opening comment, up to its command."""
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        text = line.removeprefix("#").removeprefix(" ")
        if line.startswith("# @package"):
            continue
        if not line.startswith("#") or text.startswith("  dmlbench"):
            break
        lines.append(text.strip())
    return " ".join(lines)
