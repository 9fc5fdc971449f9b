"""All that a run's files tell of its quality."""

from extremal.pipeline.aggregates.over_shards import Blocks, in_one
from extremal.pipeline.aggregates.pointing import Rule
from extremal.pipeline.aggregates.shown import Scores
from extremal.pipeline.studies import STUDIES
from extremal.storage import Run


def scores(run: Run, rule: Rule, blocks: Blocks = in_one) -> Scores:
    """The scores of a run, as its study has them.

    Raises:
        RunError: a shard is damaged or foreign.
    """
    whole = Scores()
    for add in STUDIES[run.manifest.study].scores:
        add(whole, run, rule, blocks)
    return whole
