"""Models on disk: loading, saving through transformers' quantizer interface, placement on devices."""
