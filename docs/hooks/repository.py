"""Pages for files outside `docs/`, so that the same Markdown reads well in a checkout and on the site.

A link from any page to a Markdown file of the repository leads to a page with its text, one to a source file to a page
that shows it, one to a room to its page in the reference, and one to another folder to a list of its files. Pictures
and tables are copied. What the added pages link to is added as well.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from reference import address, room_of

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
COPIED = {".png", ".svg", ".csv"}
LANGUAGES = {
    ".py": "python",
    ".pyi": "python",
    ".toml": "toml",
    ".yml": "yaml",
    ".yaml": "yaml",
    ".c": "c",
    ".js": "js",
}
LINK = re.compile(r"""(\]\(|\b(?:src|href)=")([^()"#\s]+)""")
NAMED_BLOCK = re.compile(r"^```python (\S+\.py)$", re.MULTILINE)

_path_of: dict[str, Path] = {}
"""File or folder of each page, by the page's address in the sources of the site."""


def source_address(path: Path) -> str:
    """Return the address of a file or folder of the repository in the sources of the site."""
    if path.is_relative_to(DOCS) and path.is_file():
        return path.relative_to(DOCS).as_posix()
    name = path.relative_to(ROOT).as_posix()
    if path.is_dir():
        readme, room = path / "README.md", room_of(path / "__init__.py")
        return source_address(readme) if readme.exists() else address(room) if room else f"{name}/index.md"
    if path == ROOT / "README.md":
        return "repository.md"  # docs/index.md has the name of the first page
    return name if path.suffix in {".md", *COPIED} else f"{name}.md"


def with_links(text: str, folder: Path, new_target: Callable[[Path], str]) -> str:
    """Return Markdown with new targets for all links to existing files of the repository."""

    def replace(match: re.Match[str]) -> str:
        path = (folder / unquote(match[2])).resolve()
        is_outside = ":" in match[2] or not path.is_relative_to(ROOT) or not path.exists()
        return match[0] if is_outside else match[1] + new_target(path)

    return LINK.sub(replace, text)


def linked(text: str, folder: Path) -> Iterator[Path]:
    """Yield the files and folders of the repository that Markdown links to."""
    found: list[Path] = []
    with_links(text, folder, lambda path: found.append(path) or "")
    yield from found


def shown(path: Path) -> str:
    """Return the Markdown of the page that shows a Markdown file, a folder or a source file."""
    if path.suffix == ".md":
        return path.read_text("utf-8")
    name = path.relative_to(ROOT).as_posix()
    head = f"---\nsearch:\n  exclude: true\n---\n\n# {path.name}\n\n"
    if path.is_dir():
        rows = [f"| `{entry.name}` | {summary(entry)} |" for entry in entries(path)]
        return f"{head}The folder `{name}`:\n\n| file | subject |\n|:---|:---|\n" + "\n".join(rows) + "\n"
    language, names = LANGUAGES.get(path.suffix, "text"), ""
    if room := room_of(path):
        names = f" · [names of this room in the reference]({relative(address(room), source_address(path))})"
    return f'{head}`{name}`{names}\n\n`````{language} linenums="1"\n{path.read_text("utf-8")}\n`````\n'


def relative(target: str, page: str) -> str:
    """Return the link from one address in the sources of the site to another."""
    return Path(os.path.relpath(target, Path(page).parent)).as_posix()


def entries(folder: Path) -> list[Path]:
    """Return the files with text in a folder, and its folders, but no hidden and no generated ones."""
    kinds = {".md", *LANGUAGES}
    inside = sorted(folder.iterdir(), key=lambda path: (path.is_dir(), path.name))
    return [path for path in inside if path.suffix in kinds or (path.is_dir() and path.name[0] not in "._")]


def summary(path: Path) -> str:
    """Return the first line of a module's docstring, for a package that of its `__init__.py`, or nothing."""
    module = path / "__init__.py" if path.is_dir() else path
    if module.suffix != ".py" or not module.exists():
        return ""
    return (ast.get_docstring(ast.parse(module.read_text("utf-8"))) or "").partition("\n")[0].replace("|", "\\|")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add all that the pages of `docs/` and the navigation name outside of `docs/`, and what that links to."""
    _path_of.clear()
    waiting = [ROOT / name for name in named_in(config.nav) if not (DOCS / name).exists()]
    for file in files.documentation_pages():
        if file.abs_src_path:
            _path_of[file.src_uri] = Path(file.abs_src_path)
            waiting += linked(file.content_string, Path(file.abs_src_path).parent)
    while waiting:
        path = waiting.pop()
        path = path / "README.md" if (path / "README.md").exists() else path
        place = source_address(path)
        if place in files.src_uris or not path.exists():
            continue
        if path.suffix in COPIED:
            files.append(File.generated(config, place, abs_src_path=str(path)))
            continue
        text = shown(path)
        files.append(File.generated(config, place, content=text))
        _path_of[place] = path
        if path.suffix == ".md":
            waiting += linked(text, path.parent)
    return files


def named_in(nav: object) -> Iterator[str]:
    """Yield all addresses of a navigation."""
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, dict | list):
        for item in nav.values() if isinstance(nav, dict) else nav:
            yield from named_in(item)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links out of `docs/` to the pages of this module, and make titles of the file names of code blocks."""
    path = _path_of.get(page.file.src_uri)
    if path is None or path.suffix != ".md":
        return markdown
    markdown = NAMED_BLOCK.sub(r'```python title="\1"', markdown)
    return with_links(
        markdown,
        path.parent,
        lambda target: relative(source_address(target), page.file.src_uri),
    )
