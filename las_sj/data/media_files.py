"""Files of images or of sound in a folder, however it is laid out."""

from pathlib import Path

from las_sj.data.example_error import ExampleError

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")
SOUNDS = (".wav", ".flac", ".ogg", ".mp3")


def files_in(folder: Path, endings: tuple[str, ...], kind: str) -> list[Path]:
    """All files with one of the endings, sorted; hidden ones are left out.

    Args:
        folder: with the files, or with folders of them.
        endings: in small letters.
        kind: of the files, in words for messages.

    Raises:
        ExampleError: there is no such folder, or no such file in it.
    """
    if not folder.is_dir():
        found = f"{folder} is a file" if folder.exists() else f"there is no folder {folder}"
        raise ExampleError(f"{found}: give a folder of {kind}")
    try:
        below = [path for path in sorted(folder.rglob("*")) if not _is_hidden(path.relative_to(folder))]
    except OSError as error:
        raise ExampleError(f"{folder} cannot be read ({error.strerror}): give another folder of {kind}") from None
    files = [path for path in below if path.suffix.lower() in endings and path.is_file()]
    if not files:
        raise ExampleError(f"{folder} holds no {kind} ({', '.join(endings)}): give a folder that does")
    return files


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
