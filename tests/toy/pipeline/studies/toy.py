"""The study `toy`: of the pairs of a dataset; its score is their mean brightness."""

import pyarrow as pa

from extremal.pipeline.aggregates.over_shards import Blocks
from extremal.pipeline.aggregates.pointing import Rule
from extremal.pipeline.aggregates.shown import Scores, Shown, pointing_scores
from extremal.pipeline.studies.study import Study
from extremal.storage import Run


def brightness_scores(scores: Scores, run: Run, rule: Rule, blocks: Blocks) -> None:
    """Mean brightness."""
    values = run.table(run.kind, ["brightness"])["brightness"].to_pylist()
    table = pa.table({"mean_brightness": [sum(values) / len(values)], "n": [len(values)]})
    scores.tables["brightness"] = table
    scores.shown.append(Shown("Brightness", table, ("mean_brightness", "n")))


TOY = Study("toy", scores=(pointing_scores, brightness_scores), maps=lambda settings: ("toy",))
