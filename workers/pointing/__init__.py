"""Points of maps, and ground truth that they are measured against."""
