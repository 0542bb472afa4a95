"""Metadata of rosettasciio's signals, under HyperSpy's names."""

from __future__ import annotations

import copy
from typing import Any


def mapped(signal: dict[str, Any]) -> dict[str, Any]:
    """Metadata with what rosettasciio leaves to its `mapping`, as HyperSpy applies it."""
    md: dict[str, Any] = copy.deepcopy(signal.get("metadata") or {})
    om = signal.get("original_metadata") or {}
    for source, (target, convert) in (signal.get("mapping") or {}).items():
        value = value_at(om, source)
        if value is None:
            continue
        try:
            value = value if convert is None else convert(value)
        except Exception:  # a converter of the library that meets an unexpected value
            continue
        node = md
        *parents, last = target.split(".")
        for key in parents:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                break
        else:
            if value is not None:
                node[last] = value
    return md


def value_at(tree: Any, path: str) -> Any:
    """A value of nested dictionaries by a dotted path, or None. Keys may hold dots themselves."""
    if not hasattr(tree, "get"):
        return None
    if path in tree:
        return tree[path]
    head, _, rest = path.partition(".")
    return value_at(tree.get(head), rest) if rest and head in tree else None
