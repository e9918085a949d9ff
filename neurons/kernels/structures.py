"""The structures of neuron.h and of the kernels on a GPU, as ctypes; tables have the type that is computed in."""

from collections.abc import Sequence
from ctypes import POINTER, Structure, c_double, c_float, c_int32, c_int64, c_void_p
from typing import Any

_Fields = list[tuple[str, Any]]

HELD, FLAT, SLOPED = range(3)  # how a function goes on beyond its core


class Code(Structure):
    """Settings of the multi-threshold code."""

    _fields_ = [
        ("time_steps", c_int32),
        ("levels", c_int32),
        ("nearest", c_int32),
        ("max_spikes", c_int32),
        ("spike_bound", c_int32),
    ]


class Thresholds(Structure):
    """A population of MT or OAT neurons."""

    _fields_ = [
        ("normal", c_void_p),
        ("outlier", c_void_p),
        ("channels", c_int64),
        ("normal_per_channel", c_int32),
        ("outlier_per_channel", c_int32),
        ("code", Code),
    ]


class Gates(Structure):
    """A population of HG neurons."""

    _fields_ = [
        ("is_grid", c_int32),
        ("time_steps", c_int32),
        ("bias", c_void_p),
        ("amplitude", c_void_p),
        ("start", c_void_p),
        ("inverse_width", c_void_p),
        ("cells", c_void_p),
        ("cell_count", c_int32),
        ("below", c_int32),
        ("above", c_int32),
        ("sub_neurons", c_int32),
        *((name, c_double) for name in ("shift", "core_low", "core_high", "inverse_cell", "first_cell")),
        *((name, c_double) for name in ("below_intercept", "below_slope", "above_intercept", "above_slope")),
        ("tail_width", c_double),
        ("per_octave_bits", c_int32),
        ("period", c_int32),
        ("gain", c_int32),
        ("even", c_int32),
        ("octave_shift", c_double),
        ("octave_step", c_double),
        ("low", c_double),
        ("high", c_double),
        ("lines", c_void_p),
    ]


class Currents(Structure):
    """What goes in: [steps, a, b, c, run] with strides, in elements."""

    _fields_ = [
        ("data", c_void_p),
        *((name, c_int64) for name in ("steps", "step_stride", "a", "b", "c", "run")),
        *((name, c_int64) for name in ("a_stride", "b_stride", "c_stride")),
    ]


class Counts(Structure):
    """What a call counts: spikes, inputs that the outlier sub-neuron coded, inputs out of range."""

    _fields_ = [("spikes", c_int64), ("outliers", c_int64), ("beyond", c_int64)]


class Norm(Structure):
    """The populations of an RMSNorm or LayerNorm, and what follows them.

    Attributes:
        populations: in the order of the fields that point to them, as Python has them.
    """

    populations: Sequence[Any]

    _fields_ = [
        *((name, POINTER(Thresholds)) for name in ("centred", "scale", "output")),
        *((name, POINTER(Gates)) for name in ("square", "rsqrt")),
        ("channels", c_int64),
        ("centres", c_int32),
        ("epsilon", c_double),
        ("gains", c_void_p),
        ("bias", c_void_p),
    ]


class Softmax(Structure):
    """The populations of a softmax.

    Attributes:
        populations: in the order of the fields that point to them, as Python has them.
    """

    populations: Sequence[Any]

    _fields_ = [
        *((name, POINTER(Gates)) for name in ("exponential", "reciprocal")),
        *((name, POINTER(Thresholds)) for name in ("weight", "scale", "probability")),
    ]


class Mask(Structure):
    """An additive mask of rows [a, b, c, d] with strides, in elements; no data: none."""

    _fields_ = [
        ("data", c_void_p),
        *((name, c_int64) for name in ("b", "c", "d", "a_stride", "b_stride", "c_stride", "d_stride")),
    ]


# ------------------------------------------------------------------------------------------------------------ on a GPU


def _all(names: str, kind: Any) -> _Fields:
    return [(name, kind) for name in names.split()]


def _coder(real: Any) -> _Fields:
    numbers = _all("unit_of_one fire_at last_at last least_large", real)
    return [*_all("normal outlier", c_void_p), *numbers, ("to_large", c_int32), ("code", Code)]


class Coder(Structure):
    """What the code of a population with one threshold for all comes to, in fp32."""

    _fields_ = _coder(c_float)


class WideCoder(Structure):
    """What the code of a population with one threshold for all comes to, in fp64."""

    _fields_ = _coder(c_double)


class Curve(Structure):
    """A population of HG neurons in fp32, with all that does not depend on its input."""

    _fields_ = [
        *_all("lines cells", c_void_p),
        *_all("is_grid time_steps cell_count sub_neurons", c_int32),
        *_all("shift core_low core_high inverse_cell", c_float),
        *_all("first_cell below above", c_int32),
        *_all("below_intercept below_slope above_intercept above_slope", c_float),
        *_all("tail_width inverse_tail_width half_step", c_float),
        *_all("per_octave_bits period gain even ulps", c_int32),
        *_all("octave_shift octave_step low high floor_by most", c_float),
    ]


class PlainLaunch(Structure):
    """What a launch of a plain kernel reads and writes, after its neurons."""

    _fields_ = [
        ("currents", c_void_p),
        *_all("steps stride size", c_int64),
        *_all("membrane total train levels kept counts", c_void_p),
    ]


class WindowLaunch(Structure):
    """What a launch for a window of a population reads and writes, after its neurons."""

    _fields_ = [("currents", c_void_p), *_all("steps stride size", c_int64), *_all("emitted counts", c_void_p)]


class LookUpLaunch(Structure):
    """What a launch that looks sums up reads and writes, after its neurons."""

    _fields_ = [("currents", c_void_p), ("size", c_int64), *_all("emitted counts table made_for", c_void_p)]


_ROWS = [("currents", c_void_p), *_all("steps stride rows", c_int64), *_all("emitted counts", c_void_p)]


def _norm(coder: Any, curve: Any, real: Any) -> _Fields:
    return [
        *_all("centred scale output", coder),
        *_all("square rsqrt", curve),
        *_ROWS,
        *_all("gains bias", c_void_p),
        *_all("channels centres is_whole table_bytes", c_int32),
        *_all("epsilon root_of_epsilon twice_root_of_channels", real),
    ]


class NormLaunch(Structure):
    """A norm in fp32 or half precision."""

    _fields_ = _norm(Coder, Curve, c_float)


class WideNormLaunch(Structure):
    """A norm in fp64."""

    _fields_ = _norm(WideCoder, Gates, c_double)


def _softmax(coder: Any, curve: Any) -> _Fields:
    neurons = [*_all("weight scale probability", coder), *_all("exponential reciprocal", curve)]
    return [*neurons, *_ROWS, ("mask", Mask), *_all("keys table_bytes emitted_as", c_int64)]


class SoftmaxLaunch(Structure):
    """A softmax in fp32 or half precision."""

    _fields_ = _softmax(Coder, Curve)


class WideSoftmaxLaunch(Structure):
    """A softmax in fp64."""

    _fields_ = _softmax(WideCoder, Gates)


def _gated(coder: Any, curve: Any) -> _Fields:
    return [
        *_all("gate up", coder),
        ("activation", curve),
        *_all("gates ups", c_void_p),
        *_all("gate_steps gate_stride up_steps up_stride size", c_int64),
        *_all("emitted counts", c_void_p),
        *_all("is_whole table_bytes", c_int64),
    ]


class GatedLaunch(Structure):
    """A gated product in fp32 or half precision."""

    _fields_ = _gated(Coder, Curve)


class WideGatedLaunch(Structure):
    """A gated product in fp64."""

    _fields_ = _gated(WideCoder, Gates)
