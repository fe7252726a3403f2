"""The map of ViZDoom's Two Colors, as a WAD file: a directory of named texts.

The formats are Doom's WAD, UDMF 1.1 for maps and ZDoom's DECORATE for things. All
sprites, textures and flats are among those of Freedoom, which comes with vizdoom.
"""

import struct
from typing import Any

COLOURS = ("Red", "Green")
MAPS = {"Red": "MAP01", "Green": "MAP02"}
SIZE, SPACING = 1024, 192
# Tics for which the sign of an episode's colour stands, 35 a second.
SIGN_TICS = 70
_SPOT = 30001

_ITEM = """
actor TwoColors{colour} : CustomInventory
{{
  +INVENTORY.ALWAYSPICKUP
  Radius 16
  Height 32
  States
  {{
  Spawn:
    {small} ABCD 4 bright
    loop
  Pickup:
    TNT1 A 0
    stop
  }}
}}

actor TwoColorsSign{colour} {number}
{{
  +SOLID
  +SYNCHRONIZED
  Radius 16
  Height 68
  States
  {{
  Spawn:
    {tall} A {tics} bright
    stop
  }}
}}
"""
# An item of either colour near each spot; two seconds after it is gone, another one.
_SPOTS = f"""
actor TwoColorsSpot {_SPOT}
{{
  +NOBLOCKMAP
  States
  {{
  Spawn:
    TNT1 A 1
    TNT1 A 0 A_Jump(128, "Green")
    TNT1 A 1 A_SpawnItemEx("TwoColorsRed", random(-48, 48), random(-48, 48))
    goto Watch
  Green:
    TNT1 A 1 A_SpawnItemEx("TwoColorsGreen", random(-48, 48), random(-48, 48))
    goto Watch
  Watch:
    TNT1 A 8
    TNT1 A 0 A_CheckProximity("Watch", "TwoColorsRed", 72)
    TNT1 A 0 A_CheckProximity("Watch", "TwoColorsGreen", 72)
    TNT1 A 70
    goto Spawn
  }}
}}
"""


def two_colors_wad() -> bytes:
    """The whole file: one map for each colour, which differ in the sign alone."""
    sprites = {"Red": ("SMRT", "TRED"), "Green": ("SMGT", "TGRN")}
    actors = [
        _ITEM.format(
            colour=colour,
            number=_SPOT + 1 + i,
            small=sprites[colour][0],
            tall=sprites[colour][1],
            tics=SIGN_TICS,
        )
        for i, colour in enumerate(COLOURS)
    ]
    lumps = [("DECORATE", "".join([*actors, _SPOTS]))]
    for i, colour in enumerate(COLOURS):
        text = _text_map(_SPOT + 1 + i)
        lumps += [(MAPS[colour], ""), ("TEXTMAP", text), ("ENDMAP", "")]
    return _wad(lumps)


def _wad(lumps: list[tuple[str, str]]) -> bytes:
    header = struct.calcsize("<4sii")
    data, directory = b"", b""
    for name, text in lumps:
        place = struct.pack("<ii8s", header + len(data), len(text), name.encode())
        data, directory = data + text.encode("ascii"), directory + place
    return (
        struct.pack("<4sii", b"PWAD", len(lumps), header + len(data)) + data + directory
    )


def _text_map(sign: int) -> str:
    """A square room with a sign before the player, and spots for items."""
    blocks = ['namespace = "zdoom";']

    def add(kind: str, **values: Any) -> None:
        text = " ".join(f"{key} = {value};" for key, value in values.items())
        blocks.append(f"{kind} {{ {text} }}")

    def thing(kind: int, x: float, y: float, angle: int) -> None:
        levels = {f"skill{i}": "true" for i in range(1, 6)}
        place = {"x": float(x), "y": float(y), "angle": angle, "type": kind}
        add("thing", **place, single="true", **levels)

    for x, y in ((0, 0), (0, SIZE), (SIZE, SIZE), (SIZE, 0)):
        add("vertex", x=float(x), y=float(y))
    for i in range(4):
        add("linedef", v1=i, v2=(i + 1) % 4, sidefront=i, blocking="true")
        add("sidedef", sector=0, texturemiddle='"STONE2"')
    surfaces = {"texturefloor": '"FLOOR0_1"', "textureceiling": '"CEIL3_3"'}
    add("sector", heightfloor=0, heightceiling=128, lightlevel=224, **surfaces)
    thing(1, SIZE / 2, SPACING, 90)
    thing(sign, SIZE / 2, SPACING + 96, 270)
    spots = range(SPACING * 2 // 3, SIZE, SPACING)
    for x in spots:
        for y in spots:
            thing(_SPOT, x, y, 0)
    return "\n".join(blocks)
