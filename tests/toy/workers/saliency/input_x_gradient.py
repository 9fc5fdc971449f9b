r"""Input times gradient (Shrikumar et al., 2016): $`\sum_c x_c\, \partial\Phi/\partial x_c`$."""

from torch import Tensor

from extremal.workers.saliency.batch import Batch, Maps, Method
from extremal.workers.saliency.gradients import RECORDING
from extremal.workers.saliency.recorded_pass import INPUT, Trace, read


def input_x_gradient(trace: Trace) -> Tensor:
    """(N,H,W), signed."""
    return (trace.at(INPUT) * trace.back(INPUT, "plain")).sum(1)


def _compute(batch: Batch) -> Maps:
    return read(batch, RECORDING, input_x_gradient)


INPUT_X_GRADIENT = Method(_compute, recorded=True)
