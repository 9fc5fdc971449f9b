"""Where the site has its pictures."""


def picture_path(number: int) -> str:
    """The small picture of an image."""
    return f"pictures/{number // 1000:03d}/{number:06d}.jpg"


def strip_path(pair: int) -> str:
    """The maps of a pair."""
    return f"strips/{pair // 1000:03d}/{pair:06d}.png"


def inversion_path(pair: int, masked: bool = False) -> str:
    """The inversion of a pair."""
    return f"inversions/{pair:06d}{'-masked' if masked else ''}.png"


def channel_path(channel: int) -> str:
    """The inversion of a channel."""
    return f"channels/{channel:05d}.png"
