"""What a neuromorphic chip would need to run a converted model: cores, traffic, time and energy of a replay."""
