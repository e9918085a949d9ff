"""A tiny random model of every model type in seven auto mappings of transformers, and what becomes of it."""
