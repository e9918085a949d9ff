"""The structures of neuron.h, as ctypes; tables have the type that is computed in."""

from ctypes import POINTER, Structure, c_double, c_int32, c_int64, c_void_p

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
    """The populations of an RMSNorm or LayerNorm, and what follows them."""

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
    """The populations of a softmax."""

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
