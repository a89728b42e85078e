"""`footfall check-config`: every error of a config file at once."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from edge import config

if TYPE_CHECKING:
    from argparse import Namespace


def command(arguments: Namespace) -> int:
    """Print one line per problem; returns 2 if there is any."""
    problems = config.check(arguments.config, os.environ)
    for problem in problems:
        print(f"{arguments.config}: {problem}", file=sys.stderr)
    if problems:
        return 2
    print(f"{arguments.config}: fine")
    return 0
