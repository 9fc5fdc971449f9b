"""Datasets: each yields pairs of images and classes with their ground truth."""
