"""The same targets, guided by coverage: `python -m tests.fuzz.with_atheris TARGET [CORPUS] [-max_total_time=600]`.

atheris is no dependency: install it beside the package, in an environment of its own. An input that fails is written to
the working folder; move it to corpus/<target>/.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["pairwise_rm"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
