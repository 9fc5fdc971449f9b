"""Conducting a training: its data, its files, and Ray Train, on which it runs."""
