"""Networks: found, loaded, cut, their backward rules and their weights."""
