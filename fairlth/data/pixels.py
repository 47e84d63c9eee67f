"""One image as uint8 pixels, by one rule for parquet files and folders."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from tqdm.auto import tqdm

BACKGROUND = "white"  # what transparent pixels are laid on


def pixels_of(image: Any, side: int, grey: bool) -> np.ndarray:
    """The pixels of a PIL image: (1 if grey else 3, side, side) uint8.

    Transparent pixels are laid on white. An image that is not square is cropped at its centre, one
    that is larger is averaged down. Of 16-bit colour images, which Pillow opens as 8 bits, the
    upper 8 bits count.

    Raises:
        ValueError: more than 8 bits per channel otherwise: their range is not known.
    """
    from PIL.Image import Resampling
    from PIL.ImageOps import fit

    check_depth(image)
    flat = _opaque(image).convert("L" if grey else "RGB")
    if flat.size != (side, side):
        flat = fit(flat, (side, side), Resampling.BOX)
    pixels = np.asarray(flat)
    return pixels[None] if grey else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def watched(images: Iterable[Any], told: str) -> Iterable[Any]:
    """The images one by one, with a progress bar if they take more than two seconds."""
    return tqdm(images, desc=told, unit=" images", delay=2, mininterval=1, leave=False)


def check_depth(image: Any) -> None:
    """Raises ValueError if an image has integers of more than 8 bits, or floats."""
    if image is None:
        raise ValueError("is empty")
    if image.mode.startswith(("I", "F")):
        raise ValueError(
            f"has more than 8 bits per channel (mode {image.mode}: which value is white is "
            "not known)"
        )


def _opaque(image: Any) -> Any:
    """The image laid on BACKGROUND where it has transparent pixels."""
    from PIL import Image

    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, BACKGROUND), image)
