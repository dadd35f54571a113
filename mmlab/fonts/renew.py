"""Make the fonts anew from Debian's packages: `python mmlab/fonts/renew.py` (needs fonttools).

Two families, each a subset that bears a name of its own, as the Open Font License asks for:

- `mmlab Sans`, regular and bold, from Liberation Sans: Latin, Greek and Cyrillic with the widths of
  Arial, which browsers have or have a match of;
- `mmlab Sans CJK` from Noto Sans CJK KR: all Hangul syllables, Kana, and the Han of KS X 1001,
  JIS X 0208, GB 2312 and the first level of Big5.

Beside them, `widths.json` says how wide each character is, in these and in DejaVu Sans, which
matplotlib brings.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterable
from itertools import product
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont

_HERE = Path(__file__).parent
_PACKAGES = ("fonts-noto-cjk", "fonts-liberation2")
_NOTO, _KOREAN = "usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc", 1
_LIBERATION = "usr/share/fonts/truetype/liberation2/LiberationSans-{}.ttf"

_EUROPE = (
    (0x20, 0x7F), (0xA0, 0x250), (0x2B0, 0x370), (0x370, 0x530), (0x1E00, 0x2000),
    (0x2010, 0x2028), (0x2030, 0x205F), (0x2070, 0x20D0), (0x2100, 0x2400),
)  # fmt: skip
_WIDE = (
    (0x3000, 0x3040), (0x3040, 0x3130), (0x3130, 0x3190), (0x31F0, 0x3400), (0xAC00, 0xD7A4),
    (0xFE30, 0xFE50), (0xFF00, 0xFFF0), (0x2460, 0x2600),
)  # fmt: skip


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for package in _PACKAGES:
            subprocess.run(["apt-get", "download", package], cwd=root, check=True)
        for file in root.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", file, root], check=True)
        noto = TTFont(root / _NOTO, fontNumber=_KOREAN)
        _write(noto, {*_codes(_WIDE), *_codes(_EUROPE), *_han()}, "mmlab Sans CJK", "Regular")
        for style in ("Regular", "Bold"):
            [file] = root.glob(_LIBERATION.format(style))
            _write(TTFont(file), _codes(_EUROPE), "mmlab Sans", style)
        for package, name in zip(_PACKAGES, ("mmlab-sans-cjk", "mmlab-sans"), strict=True):
            text = (root / "usr/share/doc" / package / "copyright").read_text()
            (_HERE / f"{name}.LICENSE").write_text(text)
    _write_widths()


def _codes(ranges: Iterable[tuple[int, int]]) -> set[int]:
    return {code for begin, end in ranges for code in range(begin, end)}


def _han() -> set[int]:
    """The characters of four national standards, which Python's codecs know."""
    rows = {"euc_kr": 0xFE, "euc_jp": 0xFE, "gb2312": 0xFE, "big5": 0xC6}
    found = set()
    for codec, last in rows.items():
        for pair in product(range(0xA1, last + 1), range(0x40, 0xFF)):
            text = bytes(pair).decode(codec, "ignore")
            found |= {ord(c) for c in text if ord(c) > 0x2000}
    return found


def _write(font: TTFont, codes: set[int], family: str, style: str) -> None:
    options = subset.Options(
        hinting=False, layout_features=[], notdef_outline=True, name_IDs=[0, 13, 14],
        drop_tables=["BASE", "VORG", "vhea", "vmtx", "GSUB", "GPOS", "GDEF", "DSIG", "FFTM"],
    )  # fmt: skip
    worker = subset.Subsetter(options)
    worker.populate(unicodes=codes)
    worker.subset(font)
    plain = f"{family} {style}".replace(" Regular", "")
    names = {1: family, 2: style, 3: plain, 4: plain, 5: "1.0", 6: plain.replace(" ", "")}
    for number, text in names.items():
        font["name"].setName(text, number, 3, 1, 0x409)
    font["name"].names = [n for n in font["name"].names if n.platformID == 3]
    if "CFF " in font:
        top = font["CFF "].cff
        top.fontNames = [names[6]]
        top.topDictIndex[0].FullName, top.topDictIndex[0].FamilyName = plain, family
    ending = "otf" if "CFF " in font else "ttf"
    path = _HERE / f"{plain.lower().replace(' ', '-')}.{ending}"
    font.save(path)
    print(f"{path.name}: {path.stat().st_size:,} bytes, {len(font.getBestCmap()):,} characters")


def _write_widths() -> None:
    import matplotlib

    dejavu = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    files = {
        "regular": _HERE / "mmlab-sans.ttf",
        "bold": _HERE / "mmlab-sans-bold.ttf",
        "wide": _HERE / "mmlab-sans-cjk.otf",
        "dejavu": dejavu,
    }
    widths = {name: _runs(TTFont(file)) for name, file in files.items()}
    (_HERE / "widths.json").write_text(json.dumps(widths, separators=(",", ":")) + "\n")


def _runs(font: TTFont) -> list[list[int]]:
    """Characters in turn that are equally wide: first, how many, and thousandths of an em."""
    unit = font["head"].unitsPerEm
    runs: list[list[int]] = []
    for code, glyph in sorted(font.getBestCmap().items()):
        width = -(-font["hmtx"][glyph][0] * 1000 // unit)
        if runs and code == runs[-1][0] + runs[-1][1] and width == runs[-1][2]:
            runs[-1][1] += 1
        else:
            runs.append([code, 1, width])
    return runs


if __name__ == "__main__":
    main()
