"""Counting and sampling the spikes of a converted model while it runs."""
