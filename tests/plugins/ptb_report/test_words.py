"""Every text of a page has a translation, and every translation a text."""

import ast
import json
import re
from pathlib import Path

import ptb_report

PACKAGE = Path(ptb_report.__file__).parent
# Where the text is a value that the code looks up: the status of a run, the facts about its data, titles of sections.
LOOKED_UP = {"finished", "interrupted", "failed", "not ended", "inputs", "shape of an input", "target"}
LOOKED_UP |= {"Data", "Settings", "Environment", "How to use this run", "Largest losses"}


def texts():
    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Name(id="words"), args=[ast.Constant(value=text), *_]):
                    yield text
                case ast.Call(func=ast.Name(id="add" | "add_predicted"), args=[_, ast.Constant(value=text), _]):
                    yield text
                case ast.Assign(targets=[ast.Name(id="text")], value=ast.Constant(value=str(text))):
                    yield text
    yield from re.findall(r"words\('([^']*)'", (PACKAGE / "data/page.html").read_text(encoding="utf-8"))


def test_texts_and_translations_are_the_same_set():
    translated = json.loads((PACKAGE / "data/zh.json").read_text(encoding="utf-8"))
    assert set(texts()) | LOOKED_UP == translated.keys()


def test_a_translation_has_the_places_of_its_text():
    translated = json.loads((PACKAGE / "data/zh.json").read_text(encoding="utf-8"))
    for text, other in translated.items():
        assert sorted(re.findall(r"{\w+}", text)) == sorted(re.findall(r"{\w+}", other)), text
