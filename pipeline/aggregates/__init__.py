"""What a run's tables say together: one file a table, sums over shards."""
