"""Pictures of spikes, membranes, energies and fits."""
