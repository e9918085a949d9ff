"""Spiking layers, one file for each. Importing the package registers what each of them is the spiking form of."""

from las_sj.models.layers import activation, convolution, embedding, gated_mlp, linear, norm, quantised

__all__ = ["activation", "convolution", "embedding", "gated_mlp", "linear", "norm", "quantised"]
