"""Characters that a terminal obeys instead of showing: C0 and C1 controls, and those that reorder text.

Ids, documents, keys and reasons are strangers' text. They reach the terminal only through the functions here.
"""

from __future__ import annotations

from typing import Final

_REORDERING: Final = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_LINE_BREAKS: Final = (0x2028, 0x2029)
_ABOVE_ASCII: Final = (0x7F, *range(0x80, 0xA0), *_REORDERING, *_LINE_BREAKS, *range(0xD800, 0xE000))
_BELOW_SPACE: Final = tuple(code for code in range(0x20) if chr(code) not in "\t\n")

_IN_JSON: Final = {code: f"\\u{code:04x}" for code in _ABOVE_ASCII}
_IN_TEXT: Final = {
    code: f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}" for code in (*_BELOW_SPACE, *_ABOVE_ASCII)
}


def escape_text(text: str) -> str:
    r"""Return `text` with its control characters as e.g. \x1b. Newlines and tabs stay."""
    return text.translate(_IN_TEXT)


def escape_json(document: str) -> str:
    r"""Return the same JSON document with control characters as e.g. \u009b.

    JSON's own escapes end below U+0020. The others can stand only within its strings.
    """
    return document.translate(_IN_JSON)
