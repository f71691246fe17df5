"""What holds for every test."""

from __future__ import annotations

import os

# The tests' own servers are on this machine: where a proxy is set up, it is not asked for them.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(filter(None, (os.environ.get("no_proxy"), "127.0.0.1")))
