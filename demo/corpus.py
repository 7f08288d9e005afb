"""The texts of the demo: the docstrings of Python's standard library, read from its source."""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_LEFT_OUT = frozenset(
    {
        "dist-packages",
        "distutils",
        "ensurepip",
        "idlelib",
        "lib2to3",
        "pydoc_data",
        "site-packages",
        "test",
        "tests",
        "turtledemo",
    }
)
"""Tests, programs, packages installed beside the library, and packages that newer Pythons lack."""

_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class Docstring(NamedTuple):
    """One documented object. `id` is its dotted name, `document` its signature and docstring."""

    id: str
    document: str
    metadata: dict[str, str | int | bool]


def source_files() -> list[Path]:
    """Return the standard library's modules, without its tests and the packages installed beside it."""
    root = library()
    return sorted(path for path in root.rglob("*.py") if _is_importable(path.relative_to(root)))


def _is_importable(path: Path) -> bool:
    parts = path.with_suffix("").parts
    return _LEFT_OUT.isdisjoint(parts) and all(part.isidentifier() for part in parts)


def library() -> Path:
    """Return the directory of this Python's standard library."""
    return Path(sysconfig.get_path("stdlib"))


def docstrings(path: Path) -> list[Docstring]:
    """Return the docstrings of one module. Of two objects with the same name (an `if` and its `else`) keep the last."""
    module = ".".join(path.relative_to(library()).with_suffix("").parts).removesuffix(".__init__")
    tree = ast.parse(path.read_bytes())
    found = [*_documented(tree, module, module), *_nested(tree, module, module)]
    return list({docstring.id: docstring for docstring in found}.values())


def _nested(node: ast.AST, name: str, module: str) -> Iterator[Docstring]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _documented(child, f"{name}.{child.name}", module)
            yield from _nested(child, f"{name}.{child.name}", module)
        else:
            yield from _nested(child, name, module)


def _documented(node: _Documented, name: str, module: str) -> Iterator[Docstring]:
    text = ast.get_docstring(node)
    if text:
        kind, head = _kind_and_head(node, name)
        public = not any(part.startswith("_") for part in name.split("."))
        metadata: dict[str, str | int | bool] = {
            "module": module,
            "kind": kind,
            "public": public,
            "line": getattr(node, "lineno", 1),
            "words": len(text.split()),
        }
        yield Docstring(name, f"{head}\n{text}", metadata)


def _kind_and_head(node: _Documented, name: str) -> tuple[str, str]:
    if isinstance(node, ast.Module):
        return "module", f"module {name}"
    if isinstance(node, ast.ClassDef):
        return "class", f"class {name}"
    return "function", f"{name}({ast.unparse(node.args)})"
