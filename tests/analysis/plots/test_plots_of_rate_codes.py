"""Pictures of networks of rate codes show what their neurons did."""

import numpy as np
import pytest
import torch
from tiny_models import gpt2, llama, run, token_ids
from tiny_rate_codes import convert_to_rates, trains_of

import las_sj
from las_sj.analysis import (
    SpikeMonitor,
    plot_activation_histogram,
    plot_firing_rate,
    plot_membrane,
    plot_raster,
)
from las_sj.models.rate_coded.network import named_activations

BATCH = {"input_ids": token_ids(2, 6)}
SITE = "transformer.h.1.mlp.act.node"


def test_raster_has_every_spike() -> None:
    snn = convert_to_rates(gpt2(), method="srp", presimulation_steps=2)
    trains = trains_of(snn, **BATCH)
    figure = plot_raster(snn, BATCH, [SITE], range(40))
    (axis,) = figure.axes
    drawn = sorted((int(x), int(y)) for scatter in axis.collections for x, y in np.asarray(scatter.get_offsets()))
    step, neuron = torch.nonzero(trains[SITE][:, 0, -1, :40], as_tuple=True)
    assert drawn == sorted(zip((step + 1).tolist(), neuron.tolist(), strict=True))
    assert len(drawn) > 10
    assert max(step) > 3  # in the second phase


def test_a_site_is_drawn_where_none_feeds_weights() -> None:
    snn = convert_to_rates(llama())
    assert len(plot_raster(snn, BATCH).axes) == 2


def test_membrane_is_what_the_node_stores() -> None:
    snn = convert_to_rates(gpt2())
    node = snn.get_submodule(SITE)
    figure = plot_membrane(snn, BATCH, SITE, neurons=(3, 5))
    assert (node.store_v_seq, node.v_seq, node.recorder) == (False, None, None)
    node.store_v_seq = True
    trains = trains_of(snn, **BATCH)
    for axis, neuron in zip(figure.axes, (3, 5), strict=True):
        (line,) = [line for line in axis.lines if line.get_label().startswith("membrane")]
        np.testing.assert_array_equal(line.get_ydata(), node.v_seq[:, 0, -1, neuron].detach())
        (threshold,) = [line for line in axis.lines if line.get_label() == "threshold θ"]
        assert threshold.get_ydata() == pytest.approx([float(node.theta.detach())] * 2)
        (spikes,) = axis.collections
        assert (
            np.asarray(spikes.get_offsets())[:, 0].tolist()
            == (trains[SITE][:, 0, -1, neuron].nonzero()[:, 0] + 1).tolist()
        )


def test_histogram_counts_values_beyond_the_threshold() -> None:
    snn = convert_to_rates(gpt2())
    activation = dict(named_activations(snn))[SITE.removesuffix(".node")]
    activation.node.theta.data.fill_(0.5)
    inputs = []
    activation.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    figure = plot_activation_histogram(snn, BATCH, [SITE])
    mean = inputs[0].unflatten(0, (4, -1)).mean(0)
    share = 100 * float((mean > 0.5).float().mean())
    assert 1 < share < 50
    assert f"{share:.2f} %" in figure.axes[0].get_title()


def test_neurons_that_do_not_run_are_refused() -> None:
    snn = convert_to_rates(gpt2())
    las_sj.set_execution(snn, "accumulated")
    with pytest.raises(ValueError, match="temporal execution alone"):
        plot_activation_histogram(snn, BATCH, [SITE])


def test_firing_rates_have_all_lanes() -> None:
    snn = convert_to_rates(gpt2(), method="srp")
    with SpikeMonitor(snn) as monitor:
        run(snn, "temporal", **BATCH)
    mesh = plot_firing_rate(monitor.firing_rates).axes[1].collections[0]
    assert mesh.get_array().shape == (2, 8)
