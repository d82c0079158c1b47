"""Pages of the reference: one for each package and each of its rooms, with the public names in the order of the source.

A name is documented on the page of the room that defines it. The page of a package begins with links to all names that
the package exports.
"""

from __future__ import annotations

import ast
from functools import cache
from itertools import pairwise
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "bpe": "packages/bpe",
    "nnscratch": "packages/nnscratch",
    "trainer": "packages/trainer",
    "tinystories": "apps/tinystories",
    "owt_leaderboard": "apps/owt-leaderboard",
}


def folder_of(package: str) -> Path:
    """Return the folder with the sources of a package."""
    return ROOT / PACKAGES[package] / "src" / package


def rooms(package: str) -> list[str]:
    """Return the dotted names of a package and its rooms, rooms inside rooms included."""
    folder = folder_of(package)
    found = sorted(path.parent for path in folder.rglob("__init__.py"))
    return [".".join((package, *path.relative_to(folder).parts)) for path in found]


def file_of(module: str) -> Path | None:
    """Return the file of a module, the table of its names (`.pyi`) if there is one, or None outside this repository."""
    package, *parts = module.split(".")
    if package not in PACKAGES:
        return None
    path = folder_of(package).joinpath(*parts)
    if module == "bpe":
        return path / "api.py"
    files = (path / "__init__.pyi", path / "__init__.py", path.with_suffix(".py"))
    return next((file for file in files if file.exists()), None)


@cache
def parse(file: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(file.read_text("utf-8"))


def definitions(module: str) -> list[str]:
    """Return the public functions, classes and constants that a module defines and documents."""
    file = file_of(module)
    nodes = parse(file).body if file else []
    found = []
    for node, following in pairwise([*nodes, None]):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            found.append(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and is_text(following):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            found += [target.id] if isinstance(target, ast.Name) else []
    return [name for name in found if not name.startswith("_")]


def is_text(node: ast.stmt | None) -> bool:
    """Return whether a statement is a string alone, which documents the constant before it."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def imports(module: str) -> dict[str, str]:
    """Return the module that each name which a module passes on is imported from."""
    file = file_of(module)
    tree = parse(file) if file else ast.Module([], [])
    listed = {
        name
        for node in tree.body
        if isinstance(node, ast.Assign)
        and ast.unparse(node.targets[0]) == "__all__"
        and isinstance(node.value, ast.List)
        for name in ast.literal_eval(node.value)
    }
    return {
        alias.name: str(node.module)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name or alias.name in listed
    }


def defined_as(module: str, name: str) -> str | None:
    """Return the dotted name under which a name is defined and documented, or None if it is not."""
    if name in definitions(module):
        return f"{module}.{name}"
    source = imports(module).get(name)
    return defined_as(source, name) if source not in (None, module) else None


def public_names(module: str) -> list[str]:
    """Return the dotted names of all that a module exports or, if it exports nothing, defines."""
    names = [*imports(module), *definitions(module)]
    return [found for name in dict.fromkeys(names) if (found := defined_as(module, name))]


def modules(room: str) -> list[str]:
    """Return the modules of a room, without hidden ones and doors to a command."""
    package, *parts = room.split(".")
    files = sorted(folder_of(package).joinpath(*parts).glob("*.py"))
    return [f"{room}.{file.stem}" for file in files if not file.stem.startswith("_") and file.stem != "api"]


def address(room: str) -> str:
    """Return the address of a room's page in the sources of the site."""
    package, *parts = room.split(".")
    return f"reference/{package}/{'.'.join(parts) or 'index'}.md"


def room_of(path: Path) -> str | None:
    """Return the room that a source file is in, or None for other files."""
    for package in PACKAGES:
        if path.suffix == ".py" and path.exists() and path.is_relative_to(folder_of(package)):
            return ".".join((package, *path.parent.relative_to(folder_of(package)).parts))
    return None


def home_of(name: str) -> str:
    """Return the innermost room in which a name is defined, on whose page it is documented."""
    return max((room for room in rooms(name.partition(".")[0]) if name.startswith(f"{room}.")), key=len)


def is_shown_by_module(room: str) -> bool:
    """Return whether a page is ordered by modules: that of a package, and that of a room that exports nothing."""
    return room in PACKAGES or not public_names(room)


@cache
def names_by_home() -> dict[str, list[str]]:
    """Return the dotted names that each page documents."""
    found: dict[str, list[str]] = {room: [] for package in PACKAGES for room in rooms(package)}
    for room in found:
        sources = [room, *modules(room)] if is_shown_by_module(room) else [room]
        for name in dict.fromkeys(name for source in sources for name in public_names(source)):
            if name not in (names := found[home_of(name)]):
                names.append(name)
    return found


def page(room: str) -> str:
    """Return the Markdown of a room's page."""
    own, exported = names_by_home()[room], public_names(room)
    text = [f"# {room}", docstring(room)]
    if room in PACKAGES and exported:
        text.append(f"Public names: {links(exported)}.")
    elif elsewhere := [name for name in exported if name not in own]:
        text.append(f"Also exported: {links(elsewhere)}.")
    if not is_shown_by_module(room):
        return "\n\n".join([*text, *(entry(name, 2) for name in own)]) + "\n"
    text += [entry(name, 2) for name in own if name.rpartition(".")[0] == room]
    for module in modules(room):
        names = public_names(module)
        inside = [name for name in own if name.startswith(f"{module}.")]
        text += [f"## {module}", docstring(module), *(entry(name, 3) for name in inside)]
        if elsewhere := [name for name in names if name not in inside]:
            text.append(f"Exports: {links(elsewhere)}.")
    return "\n\n".join(text) + "\n"


def entry(name: str, level: int) -> str:
    """Return the directive that documents a name under a heading."""
    return f"::: {name}\n    options:\n      heading_level: {level}"


def links(names: list[str]) -> str:
    """Return links to the entries of names."""
    return ", ".join(f"[`{name.rpartition('.')[2]}`][{name}]" for name in names)


def docstring(module: str) -> str:
    """Return the directive that shows the docstring of a module and nothing else."""
    options = ("members: false", "show_root_heading: false", "show_root_toc_entry: false")
    return "\n      ".join((f"::: {module}\n    options:", *options))


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages into the navigation, below the heading *Reference*, and forget the sources of an earlier build."""
    parse.cache_clear()
    names_by_home.cache_clear()
    (section,) = (item for item in config.nav or [] if isinstance(item, dict) and "Reference" in item)
    section["Reference"] = [
        "reference/index.md",
        *(
            {package: [{room: address(room)} if room != package else address(room) for room in rooms(package)]}
            for package in PACKAGES
        ),
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for room in names_by_home():
        files.append(File.generated(config, address(room), content=page(room)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Add a table of all pages to the first one."""
    if page.file.src_uri != "reference/index.md":
        return markdown
    rows = [f"| [{room}]({address(room).removeprefix('reference/')}) | {subject(room)} |" for room in names_by_home()]
    return "\n".join((markdown, "| room | subject |", "|:---|:---|", *rows)) + "\n"


def subject(room: str) -> str:
    """Return the first line of a room's docstring."""
    package, *parts = room.split(".")
    tree = parse(folder_of(package).joinpath(*parts, "__init__.py"))
    return (ast.get_docstring(tree) or "").partition("\n")[0].replace("|", "\\|")
