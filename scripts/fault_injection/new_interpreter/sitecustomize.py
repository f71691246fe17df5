"""Imported by every new interpreter of which PYTHONPATH contains this directory: processes of launchers inject faults too."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if "DMLBENCH_FAULT" in os.environ:
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    from fault_injection.injector import install_from_environment

    install_from_environment()
