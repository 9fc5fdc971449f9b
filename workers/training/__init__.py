"""Training a classifier on one device."""
