"""Sound from files, as a feature extractor takes it: one channel, at its rate."""

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from las_sj.data.example_error import ExampleError
from las_sj.extras import MissingExtraError, require_extra
from las_sj.reasons import reason_of

RATES = (1_000, 768_000)  # samples a second that are sound
Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Sound:
    """A sound.

    Attributes:
        samples: [N], within ±1.
        rate: samples a second.
    """

    samples: Samples
    rate: int

    def at(self, rate: int) -> Samples:
        """The samples at another rate, [N·rate/self.rate], filtered so that nothing is mirrored."""
        if rate == self.rate:
            return self.samples
        from scipy.signal import resample_poly

        common = math.gcd(rate, self.rate)
        return np.asarray(resample_poly(self.samples, rate // common, self.rate // common), np.float32)


def read_sound(file: Path) -> Sound:
    """The sound in a file; several channels are mixed. WAV needs nothing else, other formats the extra `audio`.

    Raises:
        ExampleError: it cannot be read, is empty, or is no sound.
        MissingExtraError: what reads its format is not installed.
    """
    try:
        rate, samples = _read_wav(file) if file.suffix.lower() == ".wav" else _read_other(file)
    except MissingExtraError:
        raise
    except Exception as error:  # decoders raise whatever they come upon
        raise ExampleError(f"cannot read the sound {file} ({reason_of(error)}): give another") from None
    if not len(samples):
        raise ExampleError(f"the sound {file} is empty: give another")
    if not RATES[0] <= rate <= RATES[1]:
        raise ExampleError(f"the sound {file} has {rate} samples a second: give one with {RATES[0]} to {RATES[1]}")
    if not np.isfinite(samples).all():
        raise ExampleError(f"the sound {file} has infinite or NaN samples: give another")
    return Sound(samples.reshape(len(samples), -1).mean(1, dtype=np.float32), rate)


def _read_wav(file: Path) -> tuple[int, Samples]:
    from scipy.io import wavfile

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", wavfile.WavFileWarning)  # of chunks that are no sound
        rate, found = wavfile.read(file)
    return int(rate), _scaled(found)


def _scaled(found: NDArray[Any]) -> Samples:
    """Samples within ±1: whole numbers by their range, of which eight bits are counted from 128."""
    if found.dtype == np.uint8:
        return (found.astype(np.float32) - np.float32(128)) / np.float32(128)
    if found.dtype.kind == "i":
        return (found / -float(np.iinfo(found.dtype).min)).astype(np.float32)
    return found.astype(np.float32)


def _read_other(file: Path) -> tuple[int, Samples]:
    require_extra("audio", "soundfile")
    import soundfile

    samples, rate = soundfile.read(file, dtype="float32")
    return int(rate), samples
