"""The loop that keeps actors busy with the shards of a run, and its stop."""
