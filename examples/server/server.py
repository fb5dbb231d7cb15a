#!/usr/bin/env python3
"""The example web server's command: ``python examples/server/server.py start``, ``--disconnect ipm``, and so on."""

import sys

from webserver.cli import main

if __name__ == "__main__":
    sys.exit(main())
