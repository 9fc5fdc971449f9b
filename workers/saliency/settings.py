"""The settings of single methods, and the layers that they read; needs no torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RiseConfig:
    """RISE (Petsiuk et al., 2018): random masks of cells, weighted by the score under them.

    Attributes:
        masks: how many. cells: along each side. keep: probability of a cell to be kept.
    """

    masks: int = 8000
    cells: int = 7
    keep: float = 0.5

    def __post_init__(self) -> None:
        if self.masks < 1 or self.cells < 1 or not 0 < self.keep < 1:
            raise ValueError("rise masks and cells must be at least 1, keep between 0 and 1")
        if self.masks * self.cells**2 > 2**28:
            raise ValueError(f"rise: {self.masks} masks of {self.cells}x{self.cells} cells are too many")


@dataclass(frozen=True)
class OcclusionConfig:
    """Occlusion: the drop of the logit under a sliding square of the mean colour.

    Attributes:
        window: side of the square, pixels of the input. stride: pixels between two places of it.
    """

    window: int = 48
    stride: int = 16

    def __post_init__(self) -> None:
        if not 1 <= self.stride <= self.window <= 2**16:
            raise ValueError("occlusion stride must be at least 1 and at most the window, that at most 65536")


@dataclass(frozen=True)
class Layers:
    """Where the methods read a network: dotted names of layers.

    Attributes:
        cam: the last layer with space: Grad-CAM, linear approximation, NormGrad.
        excitation: where excitation backpropagation is read (MWP, cMWP).
        contrast: where cMWP subtracts the signal of all other classes.
        classifier: the layer whose weights change sign for the contrast.
    """

    cam: str | None = None
    excitation: str | None = None
    contrast: str | None = None
    classifier: str | None = None

    def names(self, *roles: str) -> tuple[str, ...]:
        """The layers of some roles, of all without any; those of roles that have none are left out.

        A role may hold several names (a tuple) where a method reads several layers.
        """
        values = [getattr(self, role) for role in roles] if roles else list(vars(self).values())
        several = [value if isinstance(value, tuple) else (value,) for value in values]
        return tuple(name for names in several for name in names if name is not None)
