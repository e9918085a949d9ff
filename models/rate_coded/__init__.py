"""Networks whose activations are rate codes (FAS, QCFS, SRP, COS): all else stays as it is, and runs once a lane."""
