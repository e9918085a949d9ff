"""Fewer spikes for a loss that is asked for: which population may code how coarsely."""
