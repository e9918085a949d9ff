"""From an ANN to a spiking network: calibration, the structure check, and what the conversion lost."""
