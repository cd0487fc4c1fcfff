"""mkdocs' hooks: READMEs of the repository as pages, and links that work both on GitHub and on the site.

A page links to other files by their path in the repository, as GitHub wants it. What is a page of the site is linked as
one; any other file is linked on GitHub, and a file that does not exist fails the build.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

REPO = Path(__file__).resolve().parents[1]
READMES = {
    "chart.md": ("charts/pairwise-rm/README.md", "Chart reference"),
    "images.md": ("images/README.md", "Images"),
    "manifests.md": ("manifests/README.md", "Manifests without Helm"),
}
"""Page, and the README that it is with the page's title."""

# A fenced block, a code span, or a link; only the last has groups.
_LINK = re.compile(
    r"^ *```.*?^ *```|``.*?``|`[^`]*`|(?<!!)\[((?:`[^`]*`|[^\]`])*)\]\(([^)#\s]+)(#[^)\s]*)?\)",
    re.DOTALL | re.MULTILINE,
)
_EXTERNAL = re.compile(r"[a-z]+:")
# mkdocs counts warnings of its own loggers, and `strict` makes them errors.
_log = logging.getLogger("mkdocs.hooks.docs")


def source_of(page: str) -> str:
    """Path in the repository of a page's source."""
    return READMES[page][0] if page in READMES else f"docs/{page}"


def on_files(files: Any, config: Any) -> Any:
    """Adds the READMEs."""
    for page, (readme, title) in READMES.items():
        text = (REPO / readme).read_text(encoding="utf-8")
        text = re.sub(r"\A# .*\n", f"# {title}\n", text)
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Rewrites links to files of the repository."""
    pages = {source_of(file.src_uri): file.src_uri for file in files.documentation_pages()}
    return rewritten(markdown, page.file.src_uri, pages, config["repo_url"])


def rewritten(markdown: str, page: str, pages: dict[str, str], repo_url: str) -> str:
    """The page's text with links for the site. `pages`: each page by its source's path in the repository."""

    def link(found: re.Match[str]) -> str:
        text, target, anchor = found[1], found[2], found[3] or ""
        if target is None or _EXTERNAL.match(target):
            return found[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source_of(page)), target))
        if path in pages:
            return f"[{text}]({posixpath.relpath(pages[path], posixpath.dirname(page) or '.')}{anchor})"
        if path.startswith("docs/") and (REPO / path).is_file():
            return found[0]  # a picture
        if not (REPO / path).exists():
            _log.warning("%s: link to %s, which does not exist", page, path)
        return f"[{text}]({repo_url}/blob/main/{path}{anchor})"

    return _LINK.sub(link, markdown)
