"""Training of networks of rate codes (FAS): language modelling, tasks, and what lets a training go on."""
