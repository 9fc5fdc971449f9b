"""A shard's way from the plan to its rows, in one process."""
