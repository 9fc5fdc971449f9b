"""Feature inversion (eq. 12)."""
