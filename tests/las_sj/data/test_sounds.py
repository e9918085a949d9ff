"""Sound from files: any width, rate and number of channels, or one line that names the file."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile
from tiny_media import tone, write_wav

from las_sj.data.example_error import ExampleError
from las_sj.data.sounds import Sound, read_sound


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.float32, np.float64])
def test_samples_of_every_width(kind: type, tmp_path: Path) -> None:
    samples = tone(16000, 300)
    scales = {np.uint8: (127, 128), np.int16: (32767, 0), np.int32: (2**31 - 1, 0)}
    factor, zero = scales.get(kind, (1, 0))
    wavfile.write(
        tmp_path / "a.wav",
        16000,
        (samples * factor + zero if factor == 1 else np.round(samples * factor + zero)).astype(kind),
    )
    sound = read_sound(tmp_path / "a.wav")
    assert sound.rate == 16000
    assert sound.samples.dtype == np.float32
    np.testing.assert_allclose(sound.samples, samples, atol=1.1 / 128 if kind is np.uint8 else 1e-4)


def test_channels_are_mixed(tmp_path: Path) -> None:
    left, right = tone(8000, 200), tone(8000, 500)
    write_wav(tmp_path / "a.wav", np.stack([left, right], 1), 8000, channels=2)
    np.testing.assert_allclose(read_sound(tmp_path / "a.wav").samples, (left + right) / 2, atol=1e-4)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 16000])
def test_another_rate_is_the_same_sound(rate: int) -> None:
    found, expected = Sound(tone(rate, 440).astype(np.float32), rate).at(16000), tone(16000, 440)
    assert found.dtype == np.float32
    assert abs(len(found) - len(expected)) <= 1
    np.testing.assert_allclose(found[800:7000], expected[800:7000], atol=5e-3)  # the filter rings at both ends


def test_what_a_lower_rate_cannot_hold_is_filtered_out() -> None:
    high = Sound(tone(44100, 15000).astype(np.float32), 44100).at(16000)
    assert np.abs(high[800:-800]).max() < 0.01


def test_flac(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile", reason="the extra audio is not installed")
    soundfile.write(tmp_path / "a.flac", tone(16000, 300), 16000)
    np.testing.assert_allclose(read_sound(tmp_path / "a.flac").samples, tone(16000, 300), atol=1e-4)


def spoil(file: Path, case: str) -> None:
    if case == "no sound":
        file.write_bytes(b"no sound at all")
    elif case == "cut off":
        file.write_bytes(write_wav(file, tone(16000, 300), 16000).read_bytes()[:20])
    elif case == "empty":
        write_wav(file, np.zeros(0), 16000)
    elif case == "rate":
        write_wav(file, tone(16000, 300), 3)
    elif case == "NaN":
        wavfile.write(file, 16000, np.full(100, np.nan, np.float32))


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("no sound", "cannot read the sound .*a.wav .*: give another"),
        ("cut off", "cannot read the sound .*a.wav .*: give another"),
        ("missing", "cannot read the sound .*a.wav .*No such file.*: give another"),
        ("empty", "a.wav is empty: give another"),
        ("rate", "a.wav has 3 samples a second: give one with 1000 to 768000"),
        ("NaN", "a.wav has infinite or NaN samples: give another"),
    ],
)
def test_broken_sounds_are_named(case: str, says: str, tmp_path: Path) -> None:
    spoil(tmp_path / "a.wav", case)
    with pytest.raises(ExampleError, match=says):
        read_sound(tmp_path / "a.wav")
