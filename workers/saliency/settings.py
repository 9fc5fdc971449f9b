"""The settings of single methods, and the layers that they read; needs no torch."""

from dataclasses import dataclass

from extremal.workers.errors import LayerError

Role = str | tuple[str, ...] | None


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

    A role may hold several names where a method reads several layers; a single one stands by itself.

    Attributes:
        cam: the last layer with space: Grad-CAM, linear approximation, NormGrad.
        excitation: where excitation backpropagation is read (MWP, cMWP).
        contrast: where cMWP subtracts the signal of all other classes.
        classifier: the layer whose weights change sign for the contrast.
    """

    cam: Role = None
    excitation: Role = None
    contrast: Role = None
    classifier: Role = None

    def __post_init__(self) -> None:
        for role, names in vars(self).items():
            if names == ():
                raise ValueError(f"{role} must name a layer; leave it out for the table's")
            if isinstance(names, tuple) and len(names) == 1:  # the same run, however it is written
                object.__setattr__(self, role, names[0])

    def names(self, *roles: str) -> tuple[str, ...]:
        """The layers of some roles, of all without any; those of roles that have none are left out."""
        values = [getattr(self, role) for role in roles] if roles else list(vars(self).values())
        several = [value if isinstance(value, tuple) else (value,) for value in values]
        return tuple(name for names in several for name in names if name is not None)

    def single(self, role: str) -> str:
        """The layer of a role, for a method that reads one.

        Raises:
            LayerError: the role has none, or several.
        """
        names = self.names(role)
        if len(names) != 1:
            several = f"not several ({', '.join(names)})" if names else "and none is named"
            raise LayerError(
                f'it reads one layer as {role}, {several}: [saliency.layers] {role} = "..." in the TOML'
            )
        return names[0]
