"""`footfall check-config`: every error of a config file at once."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from edge import config

if TYPE_CHECKING:
    from argparse import Namespace


MOST_PROBLEMS = 100
"""Far more than there are keys: what has more is some other file."""


def command(arguments: Namespace) -> int:
    """Print one line per problem; returns 2 if there is any."""
    problems = config.check(arguments.config, os.environ)
    for problem in problems[:MOST_PROBLEMS]:
        print(f"{arguments.config}: {problem}", file=sys.stderr)
    if len(problems) > MOST_PROBLEMS:
        more = len(problems) - MOST_PROBLEMS
        print(f"{arguments.config}: and {more} more: is this a config file of Footfall?", file=sys.stderr)
    if problems:
        return 2
    print(f"{arguments.config}: fine")
    return 0
