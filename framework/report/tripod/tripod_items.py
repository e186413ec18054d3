"""TRIPOD+AI (Collins et al. 2024, BMJ 385:e078378) as far as a run can fill it in by itself; the rest is the author's.

Topics are paraphrased: an author works from the published checklist.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from framework.report.finished_run import Run
from framework.report.methods.text import Part
from framework.report.tables import Cell, Table, words
from framework.report.tripod import tripod_answers

AUTHOR = "For the author."
Filled = Callable[[Run, set[str]], str | None]  # of a run and the titles of its methods


@dataclass(frozen=True)
class Item:
    """One item: its number, its topic, what the run says of it (None: nothing), and what the author still owes."""

    number: str
    topic: str
    filled: Filled = lambda run, methods: None
    owed: str = ""


def table(run: Run, methods: list[Part]) -> Table:
    """All items; `methods` are the paragraphs that some of them lead to."""
    titles = {part.title for part in methods}
    rows = [(group, item, item.filled(run, titles)) for group, items in ITEMS.items() for item in items]
    answers = [
        (group, item.number, item.topic, said or "", item.owed if said else AUTHOR) for group, item, said in rows
    ]
    return Table(
        "tripod-ai",
        f"TRIPOD+AI: {sum(said is not None for *_, said in rows)} of {len(rows)} items that this run can answer",
        ("Part", "Item", "Topic", "Answer of the run", "For the author"),
        [
            [*words(group, number, topic, said), Cell(owed, mark="" if said else "owed")]
            for group, number, topic, said, owed in answers
        ],
        pd.DataFrame(answers, columns=["part", "item", "topic", "answer", "open"]),
        words=5,
        grouped=True,
    )


def _of(title: str, paragraph: str = "") -> Filled:
    """That a paragraph of the methods tells it, where there is one."""
    return lambda run, methods: f"In the methods: {paragraph or title}." if title in methods else None


ITEMS: dict[str, list[Item]] = {
    "Title and abstract": [
        Item("1", "A title that names the kind of study, the population and the outcome"),
        Item("2", "An abstract after its own checklist"),
    ],
    "Introduction": [
        Item("3a", "The health question, and why a model is wanted"),
        Item("3b", "For whom, where in care and by whom the model would be used"),
        Item("3c", "Known inequalities in health between groups of people"),
        Item(
            "4",
            "What the study sets out to do: develop, evaluate or both",
            tripod_answers.objective,
            "The aim in care.",
        ),
    ],
    "Methods": [
        Item(
            "5a",
            "Where the data come from, and how far they stand for the intended population",
            tripod_answers.source,
            "Why these data, and whom they stand for.",
        ),
        Item(
            "5b",
            "When data were collected and for how long people were followed",
            tripod_answers.dates,
            "Dates the cohort does not hold.",
        ),
        Item(
            "6a",
            "Setting: kind of care, number and place of centres",
            tripod_answers.centres,
            "The kind of care, and where.",
        ),
        Item("6b", "Who was eligible", tripod_answers.eligibility, "The criteria of the source study."),
        Item("6c", "Treatments received, and what was done about them"),
        Item(
            "7",
            "How data were prepared and checked, and whether alike for all groups",
            tripod_answers.preparation,
            "What was done before the ingest.",
        ),
        Item(
            "8a",
            "The outcome: definition, time horizon, how and when assessed",
            tripod_answers.defined,
            "How and why it was assessed so.",
        ),
        Item("8b", "Who assessed the outcome, where judgement enters"),
        Item("8c", "Whether outcome assessors were blind to predictors"),
        Item("9a", "How predictors were chosen before modelling", _of("Outcomes and predictors"), "Why these."),
        Item(
            "9b",
            "Each predictor: definition, unit, how and when measured",
            tripod_answers.predictors,
            "How each was measured, and whether blind.",
        ),
        Item("9c", "Who assessed predictors, where judgement enters"),
        Item("10", "How the sample size was arrived at", tripod_answers.size, "A calculation made beforehand, if any."),
        Item(
            "11",
            "How missing data were handled, and why some were left out",
            tripod_answers.missing,
            "Why values are missing.",
        ),
        Item("12a", "How data were used: partitions, and what each was for", _of("Partition")),
        Item("12b", "How predictors enter: form, scaling, transformation", _of("Models")),
        Item(
            "12c",
            "Kind of model, reasons, every step of building, tuning and internal validation",
            tripod_answers.selected,
            "Why these models.",
        ),
        Item("12d", "How differences between clusters (centres, countries) were looked at", tripod_answers.clusters),
        Item(
            "12e",
            "Measures and plots of performance, and how models were compared",
            _of("Uncertainty and comparisons", "Measures; Uncertainty and comparisons"),
            "Clinical utility.",
        ),
        Item("12f", "Whether a model was updated after evaluation", tripod_answers.updating),
        Item("12g", "How predictions were worked out in evaluation", tripod_answers.calculated),
        Item("13", "What was done about rare classes", tripod_answers.balance),
        Item("14", "What was done for fairness, and why", tripod_answers.fair, "Which groups matter, and why."),
        Item(
            "15",
            "What the model puts out, and how thresholds were set",
            tripod_answers.output,
            "Thresholds that care would use.",
        ),
        Item("16", "How development and evaluation data differ", tripod_answers.apart),
        Item("17", "Ethical approval and consent"),
    ],
    "Open science": [
        Item("18a", "Funding"),
        Item("18b", "Conflicts of interest"),
        Item("18c", "Where the protocol is"),
        Item("18d", "Registration"),
        Item("18e", "Where the data can be had"),
        Item("18f", "Where the code can be had", tripod_answers.code, "Where the commit is published."),
    ],
    "Public involvement": [Item("19", "How patients and the public took part")],
    "Results": [
        Item(
            "20a",
            "How many people, visits and outcomes came through each step",
            tripod_answers.flow,
            "A flow diagram from the source population.",
        ),
        Item("20b", "What participants were like, overall and by source", tripod_answers.described),
        Item("20c", "For evaluation, how predictors compare with those of development", tripod_answers.compared),
        Item("21", "Participants and events in each analysis", tripod_answers.analysed),
        Item("22", "The whole model, so that others can apply it", tripod_answers.specified),
        Item("23a", "Performance with intervals, also in key subgroups", tripod_answers.performance),
        Item("23b", "How performance differs between clusters", tripod_answers.heterogeneity),
        Item(
            "24", "Results of updating, if a model was updated", lambda run, m: "No model was updated after the test."
        ),
    ],
    "Discussion": [
        Item("25", "What the results mean, fairness included, beside earlier studies"),
        Item("26", "Limitations: sample, size, overfitting, missing data, and what they do to bias and use"),
        Item(
            "27a",
            "How poor or absent inputs would be handled in use",
            lambda run, m: "Absent inputs may stay absent: every model forecasts from what was observed.",
            "Poor inputs, and what users should do.",
        ),
        Item("27b", "What users have to do and know"),
        Item("27c", "What comes next: applicability, generalisability"),
    ],
}
