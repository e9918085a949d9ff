"""MTNode and OATNode: both step modes, SpikingJelly's OutlierAwareThresholdNode, bounds, thresholds, gradients."""

from collections.abc import Callable
from typing import TypeAlias

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from spikingjelly.activation_based.neuron import FewSpikeTable, OutlierAwareThresholdNode
from torch import Tensor

from las_sj.neurons import MTNode, OATNode
from las_sj.neurons.code import emit_steps
from las_sj.neurons.population import CHUNK

Node: TypeAlias = MTNode | OATNode
DTYPES = (torch.float32, torch.float64)
HALF = (torch.float16, torch.bfloat16)
NORMAL, OUTLIER = 0.75, 20.0
CHANNELS = (0.1, 0.75, 3.0)

shapes = st.lists(st.integers(0, 5), min_size=1, max_size=3)
seeds = st.integers(0, 2**32 - 1)
every_setting = st.fixed_dictionaries(
    {
        "time_steps": st.integers(1, 24),
        "levels": st.sampled_from((1, 2, 3, 7, 15)),
        "rounding": st.sampled_from(("nearest", "floor")),
        "max_spikes": st.sampled_from((None, 1, 2, 3)),
    }
)


def build(kind: str, settings: dict[str, object], step_mode: str = "s") -> Node:
    """A node that counts spikes; for "channel" kinds the last dimension of the input is 3."""
    channels = torch.tensor(CHANNELS)
    nodes: dict[str, Callable[[], Node]] = {
        "mt": lambda: MTNode(NORMAL, **settings, step_mode=step_mode),  # type: ignore[arg-type]
        "mt-channel": lambda: MTNode(channels, **settings, step_mode=step_mode),  # type: ignore[arg-type]
        "oat": lambda: OATNode(NORMAL, OUTLIER, **settings, step_mode=step_mode),  # type: ignore[arg-type]
        "oat-channel": lambda: OATNode(channels, OUTLIER, **settings, step_mode=step_mode),  # type: ignore[arg-type]
    }
    node = nodes[kind]()
    node.count_spikes = True
    return node


KINDS = ("mt", "mt-channel", "oat", "oat-channel")


def draw_inputs(kind: str, shape: list[int], seed: int, dtype: torch.dtype) -> Tensor:
    """Values of all sizes, thresholds and their neighbours, outliers."""
    generator = torch.Generator().manual_seed(seed)
    shape = [*shape, 3] if kind.endswith("channel") else shape
    special = torch.tensor([0.0, NORMAL, OUTLIER, *CHANNELS, NORMAL / 2, 1e30, torch.inf, 1e-40], dtype=dtype)
    special = torch.cat([special, torch.nextafter(special, special + 1), torch.nextafter(special, special - 1)])
    special = torch.cat([special, -special])
    picked = special[torch.randint(len(special), shape, generator=generator)]
    sizes = torch.exp2(torch.rand(shape, generator=generator, dtype=dtype) * 12 - 7)
    signs = torch.randint(2, shape, generator=generator) * 2 - 1
    return torch.where(torch.rand(shape, generator=generator) < 0.3, picked, sizes * signs)


def both_modes(kind: str, settings: dict[str, object], x: Tensor) -> tuple[Node, Tensor, Node, Tensor]:
    single, multi = build(kind, settings), build(kind, settings, "m")
    return single, single(x), multi, multi(x.unsqueeze(0))


@given(st.sampled_from(KINDS), every_setting, shapes, seeds, st.sampled_from(DTYPES))
@example("mt", {"time_steps": 16}, [0], 0, torch.float32)
@example("oat-channel", {"time_steps": 16, "levels": 15}, [2, 0], 0, torch.float64)
def test_sum_of_train(kind: str, settings: dict[str, object], shape: list[int], seed: int, dtype: torch.dtype) -> None:
    x = draw_inputs(kind, shape, seed, dtype)
    single, y, multi, train = both_modes(kind, settings, x)
    assert y.dtype == train.dtype == dtype
    assert train.shape == (settings["time_steps"], *x.shape)
    # Each of up to 24 steps is rounded when multiplied by its unit, and again when added.
    torch.testing.assert_close(y, train.sum(0), rtol=24 * torch.finfo(dtype).eps, atol=0)
    assert single.spike_count is not None
    assert multi.spike_count is not None
    assert torch.equal(single.spike_count, multi.spike_count)
    assert torch.equal(multi.spike_count, (train != 0).sum(0))
    assert single.out_of_range == multi.out_of_range


@given(st.sampled_from(KINDS), every_setting, seeds, st.sampled_from(DTYPES))
def test_train_is_that_of_the_code(kind: str, settings: dict[str, object], seed: int, dtype: torch.dtype) -> None:
    """In and beyond the range; levels such that θ(1)/n is exact, whichever way it is computed."""
    settings = settings | {"levels": {3: 4, 7: 8, 15: 16}.get(settings["levels"], settings["levels"])}  # type: ignore[call-overload]
    x = draw_inputs(kind, [30], seed, dtype)
    _, _, multi, train = both_modes(kind, settings, x)
    unit = multi.alpha(x) / (2 * multi.code.levels)
    assert torch.equal(train, torch.stack(list(emit_steps(x / unit, multi.code))) * unit)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("rounding", ["nearest", "floor"])
def test_half_precision_holds_values_only(kind: str, dtype: torch.dtype, rounding: str) -> None:
    x = draw_inputs(kind, [50], 1, torch.float32).to(dtype)
    settings: dict[str, object] = {"time_steps": 12, "levels": 3, "rounding": rounding}
    _, y, _, train = both_modes(kind, settings, x)
    _, expected, _, expected_train = both_modes(kind, settings, x.float())
    assert y.dtype == train.dtype == dtype
    assert torch.equal(y, expected.to(dtype))
    assert torch.equal(train, expected_train.to(dtype))


@given(st.sampled_from(KINDS), every_setting, seeds, st.sampled_from((*DTYPES, *HALF)))
def test_nan_stays_in_its_element(kind: str, settings: dict[str, object], seed: int, dtype: torch.dtype) -> None:
    x = draw_inputs(kind, [6], seed, torch.float32).to(dtype)
    spoilt = x.clone()
    spoilt.view(-1)[2] = torch.nan
    _, y, _, train = both_modes(kind, settings, spoilt)
    _, clean, _, clean_train = both_modes(kind, settings, x)
    others = torch.arange(x.numel()).view(x.shape) != 2
    assert torch.equal(y.isnan(), ~others)
    assert torch.equal(train.isnan(), (~others).expand(train.shape))
    assert torch.equal(y[others], clean[others])
    assert torch.equal(train[:, others], clean_train[:, others])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("max_spikes", [None, 1, 2, 3])
@pytest.mark.parametrize("rounding", ["nearest", "floor"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_error_bound_at_16_steps(kind: str, max_spikes: int | None, rounding: str, dtype: torch.dtype) -> None:
    settings: dict[str, object] = {"time_steps": 16, "rounding": rounding, "max_spikes": max_spikes}
    for levels in (1, 3, 15):
        node = build(kind, settings | {"levels": levels})
        x = draw_inputs(kind, [2000], 2, dtype)
        x = torch.where(x.abs() <= node.limit(x), x, 0)
        bound = node.code.error_bound(x, node.alpha(x))
        rounding_errors = 4 * torch.finfo(dtype).eps * x.abs()  # v / unit, its sum, times unit
        assert bool(((x - node(x)).abs() <= bound + rounding_errors).all())
        assert node.out_of_range == 0


def test_steps_are_thresholds() -> None:
    node = OATNode(1.0, 8.0, 4, levels=2, rounding="floor", step_mode="m")
    train = node(torch.tensor([[0.8, -0.8, 6.5, 1.0]]))
    assert train[:, 0].tolist() == [0.75, 0, 0, 0]
    assert train[:, 1].tolist() == [-0.75, 0, 0, 0]
    assert train[:, 2].tolist() == [6, 0, 0, 0.5]
    assert train[:, 3].tolist() == [0.75, 0.25, 0, 0]  # in range up to and with α, a tie is normal


@given(st.sampled_from(("mt", "oat")), every_setting, seeds)
def test_channels_are_independent(kind: str, settings: dict[str, object], seed: int) -> None:
    x = draw_inputs(f"{kind}-channel", [4, 5], seed, torch.float64)  # exact, in whichever order steps are summed
    _, y, _, train = both_modes(f"{kind}-channel", settings, x)
    for channel, theta in enumerate(CHANNELS):
        node = MTNode(theta, **settings) if kind == "mt" else OATNode(theta, OUTLIER, **settings)  # type: ignore[arg-type]
        assert torch.equal(y[..., channel], node(x[..., channel]))
        node.step_mode = "m"
        assert torch.equal(train[..., channel], node(x[None, ..., channel]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", ["transposed", "strided", "expanded"])
def test_any_memory_layout(kind: str, layout: str) -> None:
    x = draw_inputs(kind, [4, 3], 3, torch.float32) if kind.endswith("channel") else torch.randn(4, 3, 3)
    x = {
        "transposed": x.permute(1, 0, 2).contiguous().permute(1, 0, 2),
        "strided": x.repeat_interleave(2, 0)[::2],
        "expanded": x[:1].expand(4, 3, 3),
    }[layout]
    settings: dict[str, object] = {"time_steps": 8, "levels": 3}
    _, y, _, train = both_modes(kind, settings, x)
    _, expected, _, expected_train = both_modes(kind, settings, x.contiguous())
    assert torch.equal(y, expected)
    assert torch.equal(train, expected_train)


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_are_invisible(kind: str) -> None:
    """The node works through more elements than a chunk holds piece by piece."""
    settings: dict[str, object] = {"time_steps": 6, "levels": 3}
    x = draw_inputs(kind, [CHUNK + 4_465], 4, torch.float32)
    single, y, multi, train = both_modes(kind, settings, x)
    pieces = [both_modes(kind, settings, piece) for piece in x.split(30_000)]
    assert torch.equal(y, torch.cat([piece[1] for piece in pieces]))
    assert torch.equal(train, torch.cat([piece[3] for piece in pieces], 1))
    assert single.out_of_range == multi.out_of_range == sum(piece[0].out_of_range for piece in pieces)
    assert single.out_of_range == single.count_out_of_range(x) > 0


def spikingjelly_node(normal: float, outlier: float, time_steps: int, dtype: torch.dtype) -> OutlierAwareThresholdNode:
    powers = 2.0 ** -torch.arange(1, time_steps + 1, dtype=dtype)
    normal_table, outlier_table = (FewSpikeTable(*[alpha * powers] * 3) for alpha in (normal, outlier))
    return OutlierAwareThresholdNode(normal_table, outlier_table, split_threshold=normal)


@given(st.integers(1, 24), st.integers(-3, 3), st.integers(0, 8), seeds, st.sampled_from(DTYPES))
def test_equals_spikingjelly(time_steps: int, exponent: int, gap: int, seed: int, dtype: torch.dtype) -> None:
    """Thresholds that are powers of two: all arithmetic is exact, so all finite inputs agree to the last bit."""
    normal, outlier = 2.0**exponent, 2.0 ** (exponent + gap)
    theirs = spikingjelly_node(normal, outlier, time_steps, dtype)
    ours = OATNode(normal, outlier, time_steps, rounding="floor")
    x = draw_inputs("oat", [200], seed, dtype)
    edges = torch.tensor([normal, outlier, normal / 2, outlier / 2, 3e38], dtype=dtype)
    x = torch.cat([x[x.isfinite()], edges, -edges, torch.nextafter(edges, 2 * edges), torch.nextafter(edges, -edges)])
    x = x[x.isfinite()]
    assert torch.equal(ours(x), theirs(x))
    ours.step_mode = theirs.step_mode = "m"
    currents = torch.zeros(time_steps, len(x), dtype=dtype)
    currents[0] = x
    assert torch.equal(ours(currents), theirs(currents))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("normal", [0.1, NORMAL, 3.3])
def test_equals_spikingjelly_at_any_threshold(normal: float, dtype: torch.dtype) -> None:
    """They divide by nothing, we by α/2: an input whose digits end within rounding of a step may differ by it."""
    normal = float(torch.tensor(normal))  # as our fp32 parameter holds it
    x = draw_inputs("oat", [5000], 5, dtype)
    x = x[x.isfinite()]
    ours, theirs = OATNode(normal, OUTLIER, 12, rounding="floor"), spikingjelly_node(normal, OUTLIER, 12, dtype)
    steps = x.double().abs() * 2.0**12 / ours.alpha(x).double()
    near = (steps - steps.round()).abs() <= 4 * torch.finfo(dtype).eps * steps
    difference = (ours(x) - theirs(x)).abs()
    rounding = 12 * torch.finfo(dtype).eps * ours.alpha(x)
    assert bool((difference <= torch.where(near, ours.alpha(x) * 2.0**-12, 0) + rounding).all())
    assert near.float().mean() < 0.3  # the specials of `draw_inputs`


def test_outliers() -> None:
    node = OATNode(NORMAL, OUTLIER, 8)
    above = float(torch.nextafter(torch.tensor(NORMAL), torch.tensor(1.0)))
    x = torch.tensor([0.0, NORMAL, -NORMAL, above, -above, 1e30, torch.inf])
    assert node.outliers(x).tolist() == [False, False, False, True, True, True, True]
    coarse = MTNode(OUTLIER, 8)(x)
    assert torch.equal(node(x), torch.where(node.outliers(x), coarse, MTNode(NORMAL, 8)(x)))


def test_out_of_range() -> None:
    """Beyond the range, with an allowance for the rounding of what comes before."""
    x = torch.tensor([2.0, 2.0005, 2.01, -2.01, torch.inf, torch.nan, 0.0])
    for node in (MTNode(2.0, 8), OATNode(1.0, 2.0, 8)):
        assert node.count_out_of_range(x) == 3  # NaN is no number to be in a range
        node(x)
        assert node.out_of_range == 3
        node.step_mode = "m"
        node(x[None])
        assert node.out_of_range == 6
        node(torch.rand(0, 3)[None])
        assert node.out_of_range == 6
    channels = MTNode(torch.tensor([1.0, 2.0]), 8)
    channels(torch.tensor([[1.5, 1.5], [2.5, 2.5], [0.5, -2.5]]))
    assert channels.out_of_range == 4


@pytest.mark.parametrize("value", [0.0, -1.0, torch.inf, torch.nan, torch.tensor([1.0, 0.0])])
def test_thresholds_are_positive(value: float | Tensor) -> None:
    with pytest.raises(ValueError, match="theta must be finite and positive"):
        MTNode(value, 8)
    with pytest.raises(ValueError, match="theta_normal must be finite and positive"):
        OATNode(value, 1.0, 8)
    with pytest.raises(ValueError, match="theta_outlier must be finite and positive"):
        OATNode(1.0, value, 8)


def test_outlier_threshold_is_the_larger() -> None:
    with pytest.raises(ValueError, match="theta_outlier"):
        OATNode(1.0, 0.5, 8)
    with pytest.raises(ValueError, match="theta_outlier"):
        OATNode(torch.tensor([1.0, 3.0]), 2.0, 8)
    assert OATNode(1.0, 1.0, 8)(torch.tensor([0.5])).item() == 0.5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("time_steps", value) for value in (0, 25, 1.5, True)),
        *(("levels", 0), ("rounding", "up"), ("max_spikes", 0)),
    ],
)
def test_bad_settings(field: str, value: object) -> None:
    settings = {"time_steps": 8} | {field: value}
    with pytest.raises(ValueError, match=field):
        MTNode(1.0, **settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=field):
        OATNode(1.0, 2.0, **settings)  # type: ignore[arg-type]


def gradients(node: Node, x: Tensor, weight: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
    """Of Σ weight·output with respect to the input and the thresholds; and the output, summed over time."""
    x = x.clone().requires_grad_()
    thetas = [parameter.requires_grad_() for parameter in node.parameters()]
    y = node(x) if node.step_mode == "s" else node(torch.stack([x / 4, x / 2, x / 4])).sum(0)
    input_gradient, *theta_gradients = torch.autograd.grad((y * weight).sum(), [x, *thetas])
    return input_gradient, theta_gradients, y.detach()


def lsq(x: Tensor, y: Tensor, weight: Tensor, theta: Tensor) -> Tensor:
    """LSQ (arXiv 1902.08153): (y − x)/θ where |x| ≤ θ, y/θ outside."""
    return weight * torch.where(x.abs() <= theta, y - x, y) / theta


@pytest.fixture
def samples() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(6)
    x = torch.randn(50, 3, generator=generator, dtype=torch.float64) * 8
    x[0] = torch.tensor([NORMAL, -NORMAL, OUTLIER])
    return x, torch.randn(50, 3, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize("rounding", ["nearest", "floor"])
def test_gradient_of_mt(samples: tuple[Tensor, Tensor], step_mode: str, rounding: str) -> None:
    x, weight = samples
    channels = torch.tensor(CHANNELS)
    for theta in (torch.tensor(NORMAL), channels):
        node = MTNode(theta, 6, 3, rounding, step_mode=step_mode)
        input_gradient, (theta_gradient,), y = gradients(node, x, weight)
        torch.testing.assert_close(input_gradient, torch.where(x.abs() <= theta, weight, 0))
        expected = lsq(x, y, weight, theta.double()).sum_to_size(theta.shape)
        torch.testing.assert_close(theta_gradient, expected.float())
        assert theta_gradient.shape == theta.shape


@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize("normal", [torch.tensor(NORMAL), torch.tensor(CHANNELS)])
def test_gradient_of_oat(samples: tuple[Tensor, Tensor], step_mode: str, normal: Tensor) -> None:
    """Each threshold gets the gradient of the elements that its sub-neuron codes."""
    x, weight = samples
    node = OATNode(normal, OUTLIER, 6, 3, step_mode=step_mode)
    input_gradient, (normal_gradient, outlier_gradient), y = gradients(node, x, weight)
    torch.testing.assert_close(input_gradient, torch.where(x.abs() <= OUTLIER, weight, 0))
    is_outlier = x.abs() > normal
    of_normal = torch.where(is_outlier, 0, lsq(x, y, weight, normal.double())).sum_to_size(normal.shape)
    of_outlier = torch.where(is_outlier, lsq(x, y, weight, torch.tensor(OUTLIER).double()), 0).sum()
    torch.testing.assert_close(normal_gradient, of_normal.float())
    torch.testing.assert_close(outlier_gradient, of_outlier.float())


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_agree_in_both_modes(samples: tuple[Tensor, Tensor], kind: str) -> None:
    x, weight = samples
    settings: dict[str, object] = {"time_steps": 6, "levels": 3}
    single, multi = (gradients(build(kind, settings, mode), x, weight) for mode in ("s", "m"))
    torch.testing.assert_close(single[0], multi[0])
    torch.testing.assert_close(single[1], multi[1])


def test_thresholds_are_frozen_by_default() -> None:
    node = OATNode(NORMAL, OUTLIER, 8)
    assert not any(parameter.requires_grad for parameter in node.parameters())
    assert not node(torch.ones(3)).requires_grad
    x = torch.ones(3, dtype=torch.float16, requires_grad=True)
    (gradient,) = torch.autograd.grad(node(x).sum(), x)
    assert gradient.dtype == torch.float16
    assert gradient.tolist() == [1, 1, 1]
