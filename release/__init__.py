"""From a commit to what users pull: the version in all its places, the changelog's section, the chart with its image.

What is decided here is how a release is made and checked; .github/workflows/release.yaml only calls it, with accounts.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent


class ReleaseError(Exception):
    """A release that must not be made, in one line."""
