"""Spiking layers, one file for each."""
