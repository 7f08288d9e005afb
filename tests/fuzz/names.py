"""Keys that anybody could choose: invalid UUIDs, invalid collections, paths out of the folder."""

from __future__ import annotations

from random import Random

from chromadb_compaction.layout import LONGEST_KEY
from tests.builders import NOW, a_uuid7

HOUR = 3600

COLLECTIONS = (
    "docs",
    "docs.v2",
    "a-b_c",
    "..",
    ".",
    "a/b",
    "a/../docs",
    "%2e%2e",
    "%2F",
    "docs%00",
    "do\0cs",
    "docs ",
    " docs",
    "do\ncs",
    "docs\\..",
    "127.0.0.1",
    "ab",
    "a..b",
    "DOCS",
    "d\N{CYRILLIC SMALL LETTER O}cs",
    "docs\N{ZERO WIDTH SPACE}",
    "\N{RIGHT-TO-LEFT OVERRIDE}scod",
    "e\N{COMBINING ACUTE ACCENT}tage",
    "CON",
    "-rf",
    "$(reboot)",
    "'; DROP TABLE collections; --",
    "_renamed",
    "quarantine/docs",
    "\N{PILE OF POO}" * 3,
    "x" * 255,
    "x" * 256,
    "x" * 513,
)
STRANGE_SUFFIXES = (".PARQUET", ".parquet.gz", ".jsonl", "", ".reason.json", ".parquet/", "/.parquet")
SUFFIXES = (*[".parquet", ".jsonl.gz"] * 4, *STRANGE_SUFFIXES)


def a_key(number: int, chance: Random) -> str:
    """Return a key below delta/ that no other number has."""
    key = f"delta/{chance.choice(COLLECTIONS)}/{_stem(number, chance)}{chance.choice(SUFFIXES)}"
    if chance.random() < 0.1:
        key = _filled(key, chance)
    while len(key.encode()) > LONGEST_KEY:
        key = key[:-1]
    return key


def _stem(number: int, chance: Random) -> str:
    good = str(a_uuid7(NOW - HOUR, number))
    return chance.choice(
        (
            *[good] * 12,
            good.upper(),
            good.replace("-", ""),
            f"{{{good}}}",
            f"urn:uuid:{good}",
            f"{good}\0",
            f" {good}",
            good.replace("7", "4"),
            str(a_uuid7(NOW + 2 * HOUR, number)),
            str(a_uuid7(2**47 / 1000, number)),
            f"../{good}",
            f"%2e%2e%2f{good}",
            good.translate({ord("0"): "\N{FULLWIDTH DIGIT ZERO}"}),
            good.translate({ord("0"): "\N{ARABIC-INDIC DIGIT ZERO}"}),
            f"latest-{number}",
            f"n\N{SNOWMAN}-{number}",
            f"CURRENT-{number}",
        )
    )


def _filled(key: str, chance: Random) -> str:
    """Return the key with padding. The caller shortens it to the longest key that S3 allows."""
    return key + chance.choice(("x", "/", "\0", "é", "\N{PILE OF POO}")) * LONGEST_KEY
