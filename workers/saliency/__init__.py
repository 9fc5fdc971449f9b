"""Saliency methods that extremal perturbations are compared with (Table 1 of the paper), all batched."""

from extremal.workers.saliency.batch import Batch, Maps, Method
from extremal.workers.saliency.methods import METHODS, attribute, check_methods

__all__ = ["METHODS", "Batch", "Maps", "Method", "attribute", "check_methods"]
