"""The study `toy`: a number on the pair's page."""

from extremal.jobs.studies.view import StudyView, labelled

TOY = StudyView(
    name="toy",
    columns=("brightness", "seconds"),
    numbers=lambda row: labelled(row, {"brightness": "mean brightness"}, "toy: "),
)
