import os
import unicodedata

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ls_pipeline.domain.local_paths import local_path

PARTS = st.sampled_from(
    [*"abAB.~/_ ", "a.png", "A.PNG", "..", "//", "con", "nul.txt", "é", "e\u0301", "\n", "\x00"]
)
KEYS = st.one_of(st.text(min_size=1, max_size=40), st.lists(PARTS, min_size=1).map("".join))


def folded(path):
    """Return what a disk that ignores case and Unicode normalization compares."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).casefold())


def blocks(file, other):
    return other == file or other.startswith(f"{file}/")


@pytest.mark.parametrize("key", ["a.png", "images/cat-01.jpeg", "2024/x_y/archive.tar.gz"])
def test_plain_key_is_its_own_path(key):
    assert local_path(key) == key


@pytest.mark.parametrize(
    ("key", "begin", "end"),
    [
        ("Photos 2024/IMG_001.JPG", "Photos_2024/IMG_001~", ".JPG"),
        ("noending", "noending~", ""),
        ("../../etc/passwd", "_/_/etc/passwd~", ""),
        ("/abs/a.txt", "_/abs/a~", ".txt"),
        ("a//b.txt", "a/_/b~", ".txt"),
        ("CON/nul.txt", "CON_/nul~", ".txt"),
        ("köln.txt", "k_ln~", ".txt"),
        ("one/two/three/four/five.txt", "one/two/three/four/five.txt", ""),
        ("One/two/three/four/five.txt", "One/two/three/five~", ".txt"),
    ],
)
def test_any_other_key_stays_recognisable(key, begin, end):
    path = local_path(key)

    assert path.startswith(begin)
    assert path.endswith(end)


@pytest.mark.parametrize("key", ["k" * 1024, "é" * 512, "/" * 1024, "a/" * 511 + "b", "." * 1024])
def test_long_keys_have_paths_that_every_disk_accepts(key):
    path = local_path(key)

    assert len(path) <= 400
    assert all(len(part.encode()) <= 200 for part in path.split("/"))


@given(KEYS)
def test_no_key_leads_out_of_the_folder(key):
    path = f"/folder/{local_path(key)}"

    assert os.path.normpath(path) == path


@given(KEYS, KEYS)
@example("a", "a/b")
@example("a.png", "a.png/b.png")
@example("a.png", "A.PNG")
@example("a//b.png", "a/b.png")
@example("e\u0301.png", "é.png")
def test_two_keys_never_block_each_other(key, other):
    assume(key != other)
    first, second = folded(local_path(key)), folded(local_path(other))

    assert not blocks(first, second)
    assert not blocks(second, first)


@given(KEYS)
def test_key_that_imitates_the_name_of_another_gets_its_own(key):
    path = local_path(key)
    imitations = {local_path(path + "/b"), local_path(path + ".x"), local_path(path.upper())}

    assert path not in imitations
    assert not any(blocks(folded(path), folded(other)) for other in imitations)
