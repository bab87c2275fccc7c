"""The nine variables by which papers of artificial intelligence are examined for reproducibility.

Seven say what of an experiment is documented; research type and affiliation say what is examined. They are those of
Coakley, Snelleman, Hoos and Gundersen, "The Shift Toward Open and Reproducible AI Research", arXiv 2606.16974 (2026),
who go back to Gundersen and Kjensmo, "State of the Art: Reproducibility in Artificial Intelligence", AAAI 2018. The
definitions here are our own words.
"""

from __future__ import annotations

from dataclasses import dataclass

NOT_GIVEN = "not given"  # what a document or a run does not say


@dataclass(frozen=True, slots=True)
class Variable:
    """`values` maps every value that needs evidence to its definition; `absent` is the value for lack of evidence.

    Of several values that a document gives evidence for, the one listed first counts.
    """

    name: str
    title: str
    values: dict[str, str]
    absent: str = "no"

    @property
    def allowed(self) -> tuple[str, ...]:
        return (*self.values, self.absent)


VARIABLES = (
    Variable(
        "research_type",
        "Research type",
        {
            "experimental": "reports results that were measured by running something on data, also where it proves "
            "theorems as well",
            "theoretical": "argues by definitions, theorems and proofs, or surveys others, and measures nothing itself",
        },
        absent=NOT_GIVEN,
    ),
    Variable(
        "affiliation",
        "Researcher affiliation",
        {
            "collaboration": "names at least one company and at least one university or public research institute",
            "academia": "names universities or public research institutes only",
            "industry": "names companies only",
        },
        absent=NOT_GIVEN,
    ),
    Variable(
        "pseudocode",
        "Pseudocode",
        {"yes": "shows its method as an algorithm: numbered or structured steps, set apart from the prose"},
    ),
    Variable(
        "open_source_code",
        "Open source code",
        {"yes": "says where the code of this work can be had now; a promise to release it later does not count"},
    ),
    Variable(
        "open_data_sets",
        "Open data sets",
        {"yes": "uses a data set that others can get, and names, cites or links it"},
    ),
    Variable(
        "data_set_splits",
        "Data set splits",
        {"yes": "says how the data are divided for training, validation or testing: sizes, shares or named splits"},
    ),
    Variable(
        "hardware",
        "Hardware",
        {"yes": "names the GPU, TPU or CPU model, or the memory, that its experiments ran on"},
    ),
    Variable(
        "software_dependencies",
        "Software dependencies",
        {"yes": "names software that its experiments need, with version numbers or a file that pins them"},
    ),
    Variable(
        "experiment_setup",
        "Experiment set-up",
        {"yes": "gives values of hyperparameters or of the system's settings, such as learning rate, batch size, seed"},
    ),
)
BY_NAME = {variable.name: variable for variable in VARIABLES}
