"""Tasks on which a model and its spiking network are measured side by side."""
