"""Options that several commands have."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from extremal.jobs.cli.ending import BAD_INPUT

if TYPE_CHECKING:
    from extremal.pipeline.aggregates.pointing import Rule
    from extremal.pipeline.driving.driver import Pool

RunUri = Annotated[str, typer.Argument(metavar="RUN", help="Directory or URI of a run (its --out).")]
RunUris = Annotated[list[str], typer.Argument(metavar="RUN...", help="Directories or URIs of runs.")]
Device = Annotated[
    str | None, typer.Option(help="`cpu`, `cuda` or `cuda:N`. [default: a GPU if there is one]")
]
MovedRoot = Annotated[
    str | None,
    typer.Option("--root", help="Folder of the dataset, if it has moved. [default: as it was]"),
]
MovedWeights = Annotated[
    str | None,
    typer.Option("--weights", help="Weights, if they have moved. [default: as they were]"),
]


@dataclass(frozen=True)
class PoolOptions:
    """Who computes.

    Attributes:
        actors: worker processes; None = as many as GPUs allow, or CPUs.
        gpus_per_actor: less than 1: several actors share a GPU and its memory.
    """

    actors: Annotated[int | None, typer.Option(min=1)] = None
    gpus_per_actor: Annotated[float, typer.Option(min=0.01, max=1)] = 1.0
    device: Device = None

    def pool(self) -> "Pool":
        """As the driver takes it."""
        from extremal.pipeline.driving.driver import Pool

        return Pool(self.actors, self.gpus_per_actor, self.device)


@dataclass(frozen=True)
class RuleOptions:
    """What counts as a hit.

    Attributes:
        tolerance: a hit is nearer than this to the object, pixels; 0: inside.
        region: `mask`: COCO's masks and VOC's boxes; `box`: boxes in either.
        point: maximum of the map, blurred as its method asks (smooth) or plain.
    """

    tolerance: float = 15.0
    region: str = "mask"
    point: str = "smooth"

    def rule(self) -> "Rule":
        """The rule of the pointing game; a mistake ends the command with its message."""
        from extremal.pipeline.aggregates.pointing import Rule

        try:
            return Rule(self.tolerance, self.region, self.point)  # type: ignore[arg-type]  # it checks them
        except ValueError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(BAD_INPUT) from None
