"""Colour palette of the page and its charts, each for a light and a dark ground. Charts are built in the light ones.

Series colours follow Okabe and Ito (https://jfly.uni-koeln.de/color/), darkened or lightened until each has a contrast
of at least 3 against its card; text colours have at least 4.5.
"""

LIGHT_AND_DARK = {
    "ground": ("#f6f6f4", "#101216"),
    "card": ("#ffffff", "#191c22"),
    "ink": ("#1b1f24", "#e9ebee"),
    "muted": ("#586069", "#a6aeb9"),
    "line": ("#dcdfe3", "#343a44"),
    "soft": ("#eef0f2", "#23272f"),
    "accent": ("#0a62a5", "#6db5f0"),
    "tint": ("#cfe0ee", "#24405a"),
    "loss": ("#c4500a", "#f59457"),
    "lost": ("#f3d9c8", "#553421"),
    "green": ("#0b7a5b", "#45c79f"),
    "purple": ("#9a4a86", "#d993c4"),
}
GROUND, CARD, INK, MUTED, LINE, SOFT, ACCENT, TINT, LOSS, LOST, GREEN, PURPLE = (light for light, _ in LIGHT_AND_DARK.values())


def mixed(ground: str, color: str, share: float) -> str:
    """`share` of a colour on a ground, all as #rrggbb."""
    parts = ((int(ground[at : at + 2], 16), int(color[at : at + 2], 16)) for at in (1, 3, 5))
    return "#" + "".join(f"{round(under + share * (over - under)):02x}" for under, over in parts)


HEAT_SHARES = (0.0, 0.1, 0.2, 0.31, 0.43, 0.55)
HEAT = {  # behind text, cold to hot: even the hottest leaves the ink a contrast of 4.5
    f"heat-{level}": (mixed(CARD, LOSS, share), mixed(LIGHT_AND_DARK["card"][1], LIGHT_AND_DARK["loss"][1], share))
    for level, share in enumerate(HEAT_SHARES)
}
