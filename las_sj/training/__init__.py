"""Training of networks of rate codes, and calibration of their neurons (FAS, arXiv 2502.04405)."""
