"""Lossless conversion of pre-trained transformers into spiking neural networks."""
