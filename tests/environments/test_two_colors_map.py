import re
import struct

import pytest

from keras_agalite.environments._two_colors_map import two_colors_wad

pytestmark = pytest.mark.once


def lumps():
    data = two_colors_wad()
    magic, count, directory = struct.unpack_from("<4sii", data)
    assert magic == b"PWAD"
    assert len(data) == directory + 16 * count
    for i in range(count):
        at, size, name = struct.unpack_from("<ii8s", data, directory + 16 * i)
        yield name.rstrip(b"\0").decode(), data[at : at + size].decode()


def test_the_file_holds_two_maps_that_differ_in_the_sign_alone():
    names, texts = zip(*lumps(), strict=True)

    maps = ["MAP01", "TEXTMAP", "ENDMAP", "MAP02", "TEXTMAP", "ENDMAP"]
    assert list(names) == ["DECORATE", *maps]
    assert texts[2] != texts[5]
    assert texts[2] == texts[5].replace("type = 30003", "type = 30002")


def test_a_map_is_one_closed_room():
    _, text = list(lumps())[2]

    lines = re.findall(r"linedef \{ v1 = (\d); v2 = (\d); sidefront = (\d)", text)
    assert [(int(a), int(b)) for a, b, _ in lines] == [(0, 1), (1, 2), (2, 3), (3, 0)]
    assert text.count("vertex {") == text.count("sidedef {") == 4
    assert text.count("type = 30001") == 25
