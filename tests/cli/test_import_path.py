"""The current directory is searched for modules last: a file there never replaces an installed module."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.machinery import PathFinder
from pathlib import Path

import pytest
from rows_factory import make_row

from dmlbench.cli.arguments import allow_own_code
from dmlbench.results.row_files import write_row


def test_own_modules_are_found_beside_the_configuration_then_in_the_current_directory_and_only_after_installed_ones(
    tmp_path: Path,
) -> None:
    Path("conf").mkdir()
    for name in ("tqdm.py", "mine.py", "beside.py", "conf/beside.py"):
        Path(name).touch()
    sys.path.insert(0, "")  # as `python -c` does, or an empty entry of PYTHONPATH
    allow_own_code(Path("conf"))

    def found(module: str) -> str:
        spec = PathFinder.find_spec(module, sys.path)
        assert spec is not None
        return str(spec.origin)

    assert found("mine") == str(tmp_path / "mine.py")
    assert found("beside") == str(tmp_path / "conf" / "beside.py")
    assert found("tqdm").endswith("tqdm/__init__.py")
    assert sys.path[-2:] == [str(tmp_path / "conf"), str(tmp_path)]
    assert "" not in sys.path


@pytest.mark.parametrize("safe_path", ["", "1"])
def test_python_m_dmlbench_imports_nothing_from_the_current_directory(safe_path: str, tmp_path: Path) -> None:
    write_row(Path("runs/data/loss/run"), make_row(loss="contrastive"))
    for module in ("json", "tabulate", "textwrap", "yaml", "tqdm", "numpy", "typing", "argparse"):
        Path(f"{module}.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'a').write('{module} ')\n")
    command = [sys.executable, "-m", "dmlbench", "table", "runs", "--format", "csv"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"PYTHONSAFEPATH": safe_path}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "contrastive" in done.stdout
    assert not Path("executed").exists()
