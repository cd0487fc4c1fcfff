"""The RM-Gallery tutorial's name for `pairwise-rm convert`: `data_from_yaml.py --config data_config.yaml`.

All arguments are passed on unchanged.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Runs `pairwise-rm convert` with this process's arguments; exits as it does."""
    from pairwise_rm.cli.app import main as command_line

    command_line(["convert", *sys.argv[1:]])


if __name__ == "__main__":
    main()
