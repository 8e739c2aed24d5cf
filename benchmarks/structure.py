"""How the package's code hangs together, read from its imports, and how much of it there is.

    python benchmarks/structure.py [--json FILE] [--root CHECKOUT] [--upward]

A room is a folder or a module directly under `edgedistill/`. An arrow goes from a file to a file of another room that it
imports: at its head, inside a function, for annotations alone, or by a name in `import_module` or in a string that names
a module and an object (`edgedistill.a.b:Object`). A floor is a step of the longest chain of rooms that import one
another; rooms that do so in a circle share one. Upward arrows are those against the order of the layers in
`.importlinter`. Circles are groups of files that import one another, inside a room too. Statements are those of Python's
grammar without docstrings.
"""

from __future__ import annotations

import argparse
import ast
import configparser
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

PACKAGE = "edgedistill"
OBJECT = re.compile(rf"{PACKAGE}(\.\w+)+(?=:\w+$)|^{PACKAGE}(\.\w+)+$")


def module_of(path: Path, root: Path) -> str:
    """`edgedistill.data.images` of its file."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """`data` of `edgedistill.data.images`."""
    return [*module.split("."), ""][1]


def imported(tree: ast.AST, modules: set[str]) -> Iterator[str]:
    """The modules of the package that a file names, wherever it does."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and (found := OBJECT.search(node.value)):
            names = [name for name in (found.group(0),) if name in modules]
        for name in names:
            if name.split(".")[0] == PACKAGE:
                yield nearest(name, modules)


def nearest(name: str, modules: set[str]) -> str:
    """The module that a dotted name lies in."""
    while name not in modules:
        name = name.rpartition(".")[0]
    return name


def statements(tree: ast.AST) -> int:
    """Statements without docstrings."""
    found = 0
    for node in ast.walk(tree):
        found += isinstance(node, ast.stmt)
        found -= (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        )
    return found


def groups(arrows: Mapping[str, set[str]]) -> list[set[str]]:
    """The sets of names that reach one another (Tarjan 1972), each after those that it reaches."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(arrows.get(name, ())):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            place = stack.index(name)
            found.append(set(stack[place:]))
            del stack[place:]

    for name in sorted(arrows):
        if name not in index:
            visit(name)
    return found


def floors(arrows: Mapping[str, set[str]]) -> int:
    """How many steps the longest chain of rooms has."""
    height: dict[str, int] = {}
    for group in groups(arrows):
        below = {other for name in group for other in arrows.get(name, ()) if other not in group}
        level = 1 + max((height[other] for other in below), default=0)
        height |= dict.fromkeys(group, level)
    return max(height.values())


def layers_of(root: Path) -> list[set[str]]:
    """The layers of `.importlinter`, from the top."""
    contracts = configparser.ConfigParser()
    contracts.read(root / ".importlinter")
    lines = contracts["importlinter:contract:layers"]["layers"].split("\n")
    return [{name.strip() for name in re.split("[|:]", line)} for line in lines if line.strip()]


def upward(arrows: Iterable[tuple[str, str]], layers: list[set[str]]) -> list[tuple[str, str]]:
    """Arrows from a room to one of a higher layer. The package's own two files are of none."""
    level = {room: number for number, layer in enumerate(layers) for room in layer}
    return [
        (source, target)
        for source, target in arrows
        if {room_of(source), room_of(target)} <= level.keys() and level[room_of(target)] < level[room_of(source)]
    ]


def measured(root: Path) -> dict[str, Any]:
    """The figures of a checkout."""
    trees = {module_of(p, root): ast.parse(p.read_text()) for p in sorted((root / PACKAGE).rglob("*.py"))}
    files = {name: set(imported(tree, set(trees))) - {name} for name, tree in trees.items()}
    between = sorted((a, b) for a, others in files.items() for b in others if room_of(a) != room_of(b))
    rooms: dict[str, set[str]] = {room_of(name): set() for name in trees if room_of(name)}
    for source, target in between:
        if room_of(source) and room_of(target):
            rooms[room_of(source)].add(room_of(target))
    # A folder's own file and the package's are reached by whatever lies in them; they close no circle by that.
    circles = [sorted(group) for group in groups(files) if len(group) > 1]
    against = upward(between, layers_of(root))
    return {
        "rooms": len(rooms),
        "floors": floors(rooms),
        "arrows_between_files_of_two_rooms": sum(bool(room_of(a) and room_of(b)) for a, b in between),
        "arrows_between_rooms": sum(len(others) for others in rooms.values()),
        "arrows_upward": len(against),
        "upward": [f"{source} -> {target}" for source, target in against],
        "circles_of_rooms": [sorted(group) for group in groups(rooms) if len(group) > 1],
        "circles_of_files": circles,
        "files": len(trees),
        "statements": sum(statements(tree) for tree in trees.values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = measured(arguments.root.absolute())
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
