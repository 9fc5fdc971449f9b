"""Saliency methods that extremal perturbations are compared with (Table 1 of the paper), all batched."""

from workers.saliency.batch import Batch, Maps, Method
from workers.saliency.methods import METHODS, attribute, check_methods

__all__ = ["METHODS", "Batch", "Maps", "Method", "attribute", "check_methods"]
