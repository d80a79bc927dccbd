"""The table of several runs."""

from lmsl.sweep import table


def row(dev: float, test: float | None, metric: str = "f1") -> dict[str, object]:
    scores = {"dev": dev} | ({} if test is None else {"test": test})
    return {"metric": metric, "seconds": 60.4, **scores}


def test_mean_and_deviation_over_seeds():
    rows = {"0011": [row(0.8, 0.7), row(0.9, 0.72)], "0000": [row(0.5, 0.4), row(0.5, 0.4)]}
    assert table(rows, best="0011") == [
        "| unmask | runs | dev F1 | test F1 | seconds |",
        "|---|---|---|---|---|",
        "| **0011** | 2 | 85.00 ± 7.07 | 71.00 ± 1.41 | 60 |",
        "| 0000 | 2 | 50.00 ± 0.00 | 40.00 ± 0.00 | 60 |",
    ]


def test_one_seed_has_no_deviation_and_no_test_no_figure():
    lines = table({"1111": [row(0.8, None, "accuracy")]}, best="1111")
    assert lines[0].split(" | ")[2] == "dev accuracy"
    assert lines[2] == "| **1111** | 1 | 80.00 |  | 60 |"
