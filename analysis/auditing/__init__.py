"""Is a network really spike-driven? Every operation of a call, by class."""
