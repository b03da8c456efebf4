"""Rows whose label a trained bundle considers unlikely.

The probability that the bundle assigns to a row's label is its self-confidence. If it is low, either
the row is hard or the label is wrong. Northcutt, Jiang and Chuang 2021, Confident learning,
https://arxiv.org/abs/1911.00068.
"""

from __future__ import annotations

from keras_peft.data.check.report import Checked, Finding, counted, shortened
from keras_peft.data.check.subject import LabelledRows, Subject
from keras_peft.errors import OptionError
from keras_peft.inputs.strings import is_unicode
from keras_peft.store import pick

_MOST = 50
_DOUBTED = 0.5


def check_form(rows: LabelledRows) -> None:
    """Checks that each row has one text and one label, as this check requires.

    Raises:
        OptionError: If the rows have another form.
    """
    if (rows.text_form, rows.label_form) != ("text", "label"):
        raise OptionError(
            f"`bundle` requires one text and one label per row; {rows.source} has the columns of "
            f"{rows.text_form} and {rows.label_form}."
        )


def check(subject: Subject) -> Checked:
    """Ranks the rows by the probability of their label, lowest first."""
    classifier = subject.classifier
    if classifier is None:
        return Checked("doubts")
    import numpy as np

    rows = subject.rows
    known = {label: place for place, label in enumerate(classifier.labels)}
    places = [n for n, text in enumerate(rows.texts) if text and rows.labels[n] and is_unicode(text)]
    unknown = [n for n in places if rows.labels[n][0] not in known]
    places = [n for n in places if rows.labels[n][0] in known]
    findings = []
    if unknown:
        names = sorted({rows.labels[n][0] for n in unknown})
        findings.append(
            Finding(
                counted(len(unknown), "row has a label", "rows have labels")
                + f" that {classifier.name} does not know: {', '.join(map(repr, names[:10]))}",
                "Use a bundle that was trained on the same labels.",
                tuple(n + 1 for n in unknown),
            )
        )
    ranked: list[dict[str, object]] = []
    if places:
        probabilities = classifier.probabilities(pick(rows.texts, places))
        given = probabilities[np.arange(len(places)), [known[rows.labels[n][0]] for n in places]]
        ranked = [
            {
                "row": places[at] + 1,
                "label": rows.labels[places[at]][0],
                "probability": float(given[at]),
                "instead": classifier.labels[int(probabilities[at].argmax())],
                "text": rows.texts[places[at]],
            }
            for at in np.argsort(given, kind="stable")[:_MOST]
        ]
        doubted = np.flatnonzero((given < _DOUBTED) & (probabilities.max(axis=1) > given))
        if len(doubted):
            findings.append(
                Finding(
                    counted(len(doubted), "row has a label", "rows have labels")
                    + f" to which {classifier.name} assigns less than {_DOUBTED:.0%}, and more to another",
                    "Review the lowest first; a bundle that was trained on these rows finds too few.",
                    tuple(sorted(places[at] + 1 for at in doubted)),
                    tuple(
                        f"row {one['row']}: {one['label']} {one['probability']:.3f}, predicted {one['instead']}: "
                        f"{shortened(str(one['text']))}"
                        for one in ranked[: min(10, len(doubted))]
                    ),
                )
            )
    return Checked("doubts", tuple(findings), {"ranked": ranked})
