import pytest

from ptb_list.source import find_source


@pytest.mark.parametrize(
    ("target", "file", "text"),
    [
        ("torch.optim:SGD", "torch/optim/sgd.py", "class SGD"),
        ("ptb_models.lenet:LeNet", "ptb_models/lenet.py", "class LeNet"),
        ("ptb_models.lenet:LeNet.forward", "ptb_models/lenet.py", "class LeNet"),
        ("math:sin", None, None),
        ("nowhere.at_all:Thing", None, None),
        ("torch.optim:NoSuchThing", None, None),
    ],
)
def test_the_line_of_a_target_is_found(target, file, text):
    found = find_source(target)
    if file is None:
        assert found is None
        return
    path, line = found
    assert path.as_posix().endswith(file)
    assert text in path.read_text().splitlines()[line - 1]


def test_the_line_is_found_without_importing_anything_on_the_way(site, monkeypatch):
    monkeypatch.syspath_prepend(str(site.path))
    package = site.path / "odd_package"
    (package / "inner").mkdir(parents=True)
    boom = "raise AssertionError('imported')\n"
    (package / "__init__.py").write_text(boom)
    (package / "inner" / "__init__.py").write_text(boom + "from .parts import Thing as Other\nfrom ..top import Top\n")
    (package / "inner" / "parts.py").write_text(boom + "\n\nclass Thing: pass\n")
    source = "if a:\n    def Top(): pass\nelse:\n    Top = 3\n"
    (package / "top.py").write_text(boom + source)
    assert find_source("odd_package.inner:Other") == (package / "inner" / "parts.py", 4)
    assert find_source("odd_package.inner:Top") == (package / "top.py", 3)
    assert find_source("odd_package.inner:Missing") is None


@pytest.mark.parametrize("source", [b"def broken(:", b"\0", b"\xff\xfe\xff", b"(" * 5000, b""])
def test_source_that_cannot_be_parsed_has_no_line(site, monkeypatch, source):
    monkeypatch.syspath_prepend(str(site.path))
    (site.path / "odd_module.py").write_bytes(source)
    assert find_source("odd_module:Thing") is None


def test_modules_that_send_each_other_round_have_no_line(site, monkeypatch):
    monkeypatch.syspath_prepend(str(site.path))
    site.write("odd_one.py", "from odd_two import Thing")
    site.write("odd_two.py", "from odd_one import Thing")
    assert find_source("odd_one:Thing") is None
