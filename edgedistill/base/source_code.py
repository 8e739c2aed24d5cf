"""Which code a stage runs: a hash of the source files that its modules reach by their imports.

What a stage makes is made anew when that code changes, and only then. `base` and `documents` are left out: they hold types,
errors and files, and what of them decides how something is computed enters a stage's key by its value.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import re
import textwrap
from collections.abc import Iterator
from functools import cache
from itertools import accumulate
from pathlib import Path

# An import at the beginning of a line, with the names in its brackets.
STATEMENT = re.compile(r"^[ \t]*(?:from[ \t]+[\w.]+[ \t]+import[ \t]+(?:\([^)]*\)|.*)|import[ \t]+.*)", re.MULTILINE)
LEFT_OUT = (["edgedistill", "base"], ["edgedistill", "documents"])


@cache
def code_version(module: str) -> str:
    """SHA-256 (hex) of the source of a module or package and of all that it imports from its own distribution's package,
    inside functions too. Nothing is imported to find out. Raises ModuleNotFoundError."""
    hasher = hashlib.sha256()
    known = _modules(_distributed(module))
    for name in sorted(reached(module)):
        hasher.update(f"{name}\0{hashlib.sha256(known[name].read_bytes()).hexdigest()}\n".encode())
    return hasher.hexdigest()


@cache
def reached(module: str) -> frozenset[str]:
    """The modules whose code `module` runs: itself, of a package all that it holds, and what these import."""
    known = _modules(_distributed(module))
    if module not in known:
        raise ModuleNotFoundError(module)
    waiting = [name for name in known if name == module or name.startswith(f"{module}.")]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            imported = _imports(known[name], frozenset(known))
            waiting += [other for other in imported if other.split(".")[:2] not in LEFT_OUT]
    return frozenset(found)


def _distributed(module: str) -> str:
    """The outermost package of a module that is none of several distributions' (a namespace)."""
    for package in accumulate(module.split("."), lambda path, part: f"{path}.{part}"):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            return package
    raise ModuleNotFoundError(module)


@cache
def _modules(package: str) -> dict[str, Path]:
    """The files of a package or module, by dotted name."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None
    origin = Path(spec.origin)
    if origin.name != "__init__.py":
        return {package: origin}
    root = origin.parent
    parts = {path: path.relative_to(root).with_suffix("").parts for path in sorted(root.rglob("*.py"))}
    return {
        ".".join((package, *(names[:-1] if names[-1] == "__init__" else names))): path for path, names in parts.items()
    }


@cache
def _imports(path: Path, known: frozenset[str]) -> frozenset[str]:
    return frozenset(_named(_statements(path.read_bytes()), known))


def _statements(source: bytes) -> ast.AST:
    """A syntax tree with all imports of a file. Parsing whole files takes more than a second for this package, so only the
    statements are parsed where every `import` of the text stands in one that begins its line."""
    text = source.decode(errors="replace")
    if not re.search(r"\bimport\b", STATEMENT.sub("", text)) and "\\\n" not in text:
        try:
            return ast.parse("\n".join(textwrap.dedent(found) for found in STATEMENT.findall(text)))
        except SyntaxError:  # it was prose that looks like one
            pass
    return ast.parse(source)


def _named(tree: ast.AST, known: frozenset[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known and not node.level:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from inner & known
            # `from package import module` runs nothing of the package's own file that tells in what is made.
            if inner - known:
                yield node.module
