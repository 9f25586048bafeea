"""Fonts for what the figure says: characters that its font lacks are drawn with another installed one."""

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

MOST_CHARACTERS = 12  # that a warning names
# Fonts with many characters, the most likely first; the rest of the installed ones come after them.
LIKELY = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Source Han Sans SC",
    "Microsoft YaHei",
    "SimHei",
    "PingFang SC",
    "Hiragino Sans GB",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "Droid Sans Fallback",
    "Arial Unicode MS",
    "Noto Sans",
)


def use_fonts(figure: Any, warns: bool = True) -> None:
    """Give the texts of a figure fonts that have their characters.

    Args:
        figure: of matplotlib.
        warns: say which characters no installed font has, and which font to install.
    """
    from matplotlib.text import Text

    texts = [each for each in figure.findobj(Text) if each.get_text()]
    for each in texts:  # control characters have no place in a file of XML
        shown = "".join(c if c.isprintable() or c == "\n" else " " for c in each.get_text())
        if shown != each.get_text():
            each.set_text(shown)
    lacking = set().union(*map(_lacking, texts))
    if not lacking:
        return
    families = []
    for family, path in _installed():
        found = {character for character in lacking if _has(path, character)}
        if found:
            families.append(family)
            lacking -= found
        if not lacking:
            break
    for each in texts:
        each.set_fontfamily([*each.get_fontfamily(), *families])
    if lacking and warns:
        named = "".join(sorted(lacking)[:MOST_CHARACTERS])
        warnings.warn(
            f"no installed font has the characters {named}, so boxes stand in their place; install one, such as Noto "
            "Sans CJK (Debian: fonts-noto-cjk), or write an .svg file, in which text stays text",
            stacklevel=2,
        )


def _lacking(text: Any) -> set[str]:
    from matplotlib.font_manager import findfont

    characters = {each for each in text.get_text() if not each.isascii()}
    path = findfont(text.get_fontproperties()) if characters else ""
    return {each for each in characters if not _has(path, each)}


def _has(path: str, character: str) -> bool:
    from matplotlib.font_manager import get_font

    return bool(get_font(path).get_char_index(ord(character)))


def _installed() -> Iterator[tuple[str, str]]:
    """Families and files of the installed fonts, also of those that matplotlib has not noticed yet."""
    from matplotlib.font_manager import findSystemFonts, fontManager

    known = {entry.fname for entry in fontManager.ttflist}
    for path in findSystemFonts():
        if path not in known:
            _add(fontManager, path)
    regular = [entry for entry in fontManager.ttflist if entry.style == "normal" and entry.weight in (400, "normal")]
    yield from _of(LIKELY, {entry.name: entry.fname for entry in regular})


def _of(first: Iterable[str], fonts: dict[str, str]) -> Iterator[tuple[str, str]]:
    for name in dict.fromkeys([*first, *sorted(fonts)]):
        if name in fonts:
            yield name, fonts[name]


def _add(manager: Any, path: str) -> None:
    try:
        manager.addfont(path)
    except (OSError, RuntimeError, ValueError):  # a file that no font is in
        return
