import json
import warnings

import cv2
import numpy as np
import platformdirs
import pytest

from ptb_datasets.image_folder import image_folder


def build(top, **settings):
    return image_folder(root=str(top), **{"size": 6, "val_fraction": 0, "test_fraction": 0, **settings})


def folder(top, make):
    for name in ("a", "b"):
        (top / name).mkdir(parents=True)
        for number in range(4):
            assert cv2.imwrite(str(top / name / f"{number}.png"), make(number))
    return top


def transparent(number):
    return np.random.RandomState(number).randint(0, 256, (6, 6, 4)).astype(np.uint8)


def twelve_bits(number):
    return (np.random.RandomState(number).randint(0, 280, (6, 6)) + 520).astype(np.uint16)


def all_bits(number):
    return np.random.RandomState(number).randint(0, 65536, (6, 6)).astype(np.uint16)


def said(top, **settings):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        build(top, **settings)
    return [str(warning.message) for warning in caught]


def test_transparency_without_a_background_is_told_with_it(tmp_path):
    (message,) = said(folder(tmp_path / "top", transparent))
    assert "8 pictures are partly transparent" in message
    assert "dataset.background='[255, 255, 255]'" in message
    assert "a/0.png" in message
    assert said(tmp_path / "top", background=(255, 255, 255)) == []


def test_16_bit_files_that_use_few_of_them_are_told_with_their_range(tmp_path):
    (message,) = said(folder(tmp_path / "top", twelve_bits))
    every = np.stack([twelve_bits(number) for number in range(4)])
    low, high = int(every.min()), int(every.max())
    assert f"values from {low} to {high} only, of which 2 of 256 levels are left" in message
    assert f"dataset.value_range='[{low}, {high}]'" in message
    assert said(tmp_path / "top", value_range=(520.0, 799.0)) == []


def test_16_bit_files_that_use_all_of_them_are_not(tmp_path):
    assert said(folder(tmp_path / "top", all_bits)) == []


def test_a_range_that_no_value_is_in_is_told(tmp_path):
    (message,) = said(folder(tmp_path / "top", twelve_bits), value_range=(30_000.0, 40_000.0))
    assert "8 pictures are black or white all over by dataset.value_range" in message


def test_pictures_without_either_are_not_mentioned(tmp_path):
    assert said(folder(tmp_path / "top", lambda number: transparent(number)[..., :3])) == []


@pytest.mark.parametrize("make", [transparent, twelve_bits], ids=["alpha", "bits"])
def test_a_cache_remembers_what_was_seen(tmp_path, monkeypatch, make):
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / "caches")
    top = folder(tmp_path / "top", make)
    first = said(top, cache=True)
    assert len(first) == 1
    (beside,) = (tmp_path / "caches").rglob("*.json")
    assert json.loads(beside.read_text())["seen"]["transparent"] == (8 if make is transparent else 0)
    assert said(top, cache=True) == first


def test_12_bit_values_keep_their_differences_by_a_range(tmp_path):
    bundle = build(folder(tmp_path / "top", twelve_bits), value_range=(520.0, 799.0), colour="grey")
    wanted = np.rint((twelve_bits(0).astype(float) - 520) / 279 * 255)
    assert np.abs(bundle.train[0][0][0].numpy() - wanted).max() <= 1


@pytest.mark.parametrize("settings", [{}, {"background": [255, 255, 255]}], ids=["as-stored", "background"])
def test_pictures_that_are_transparent_all_over_are_noticed(tmp_path, settings):
    def invisible(number):
        pixels = transparent(number)
        pixels[..., 3] = 0 if number == 2 else 255
        return pixels

    (line,) = said(folder(tmp_path, invisible), **settings)
    assert line.startswith("2 pictures are transparent all over; their colours are trained on as they are stored")
    assert line.endswith(f"(the first: {str(tmp_path / 'a' / '2.png')!r})")
