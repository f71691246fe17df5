"""Fault injection: what `scripts/campaign.py` and `tests/robustness/` are made of.

faults     a fault, and its text on the command line
injector   counts the file-system events of a process, and injects a fault at one of them
kinds      the commands that are disturbed
processes  runs a command in a forked process
checks     what a directory contains, and how it differs from that of an undisturbed run
campaign   plans the attempts, and runs them
fuzz       readers of foreign bytes, fed with damaged files
report     tables in markdown
"""
