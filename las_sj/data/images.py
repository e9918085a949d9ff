"""Pictures from files."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from las_sj.data.example_error import ExampleError
from las_sj.reasons import reason_of

if TYPE_CHECKING:
    from PIL.Image import Image


def read_image(file: Path) -> "Image":
    """A picture in colour, the way up that its camera was held.

    Raises:
        ExampleError: it cannot be read, or is too large to be a photograph.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError  # here: models of text need none of it

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                return ImageOps.exif_transpose(image).convert("RGB")
    except UnidentifiedImageError:
        raise ExampleError(f"cannot read the image {file} (it is none that Pillow knows): give another") from None
    except Exception as error:  # decoders raise whatever they come upon
        raise ExampleError(f"cannot read the image {file} ({reason_of(error)}): give another") from None
