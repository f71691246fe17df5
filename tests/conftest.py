"""Settings that hold for all tests."""

from __future__ import annotations

import os

# Servers of the tests run on this machine: requests to them must not go through a proxy.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(filter(None, (os.environ.get("no_proxy"), "127.0.0.1")))
