"""Puts ARCHITECTURE.md and CONTRIBUTING.md, which are outside of docs/, into the site."""  # noqa: INP001 - mkdocs loads it by its path

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parent.parent
PAGES = {"ARCHITECTURE.md": "architecture.md", "CONTRIBUTING.md": "contributing.md"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text.replace("](docs/", "](")))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Correct the links to these pages: in the site they are one folder deeper."""
    for source, page in PAGES.items():
        markdown = re.sub(rf"\]\((\.\./)?((?:\.\./)*){re.escape(source)}", rf"](\2{page}", markdown)
    return markdown
