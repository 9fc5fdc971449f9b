"""What conducts: datasets -> plan -> driver loop over actors; aggregators over the store."""
