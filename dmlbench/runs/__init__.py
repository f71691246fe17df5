"""Execution of runs: from a composed configuration to a result row, in this process or in others."""
