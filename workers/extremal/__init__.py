"""Extremal perturbations and channel attribution: the engine and its equations (2 to 11)."""
