"""The figures of one run: its course, and what its layers owe to the right."""

from lmsl.data.tags.metrics import metric_name
from lmsl.report.attention import attention_of
from lmsl.report.course import Points, binned, dev_scores, losses, read_log
from lmsl.report.figures import Chart, Line, PlaneChart
from lmsl.report.lines import influence_chart
from lmsl.run_directory.influence import read_influence
from lmsl.statistics.one_run import OneRun


def run_charts(one: OneRun) -> tuple[list[Chart], list[str]]:
    """The figures, and lines on those that the run cannot have.

    Raises:
        InputError: a file that cannot be read.
    """
    drawn, missing = list[Chart](), list[str]()
    log = read_log(one.run.folder)
    metric = metric_name(one.plain)
    name = "accuracy" if one.plain else "F1"
    scores = tuple((float(x), y) for x, y in dev_scores(log, metric).items())
    loss = binned([(float(x), y) for x, y in losses(log).items()])
    if len(loss) > 1:
        note = "Training loss, means over neighbouring updates."
        drawn.append(_curve("loss", "Training loss", note, "training loss", loss))
    else:
        missing.append("Training loss: the run kept no log of it.")
    if len(scores) > 1:
        note = f"{name} on dev after each epoch."
        drawn.append(_curve("curves", f"{name} on dev", note, f"dev {name}, %", scores))
    else:
        missing.append(f"{name} on dev while training: the log has fewer than two of them.")
    _add_influence(one, drawn, missing)
    return drawn, missing


def _add_influence(one: OneRun, drawn: list[Chart], missing: list[str]) -> None:
    folder, string = one.run.folder, one.run.info.unmask
    found = read_influence(folder)
    if one.run.info.task == "generate":
        missing.append(
            "Right-context influence by layer: a model that writes answers sees nothing to the "
            "right."
        )
        return
    if found is None:
        missing.append(
            "Right-context influence by layer: the run did not record it; lmsl probe RUN --save "
            "adds it."
        )
        return
    points = tuple((float(layer), value) for layer, value in enumerate(found.layers, start=1))
    drawn.append(influence_chart((Line(label=string, points=points, tone="accent"),), "words"))
    attention, why_not = attention_of(string, [folder])
    drawn += [attention] if attention is not None else []
    missing += [why_not] if why_not is not None else []


def _curve(key: str, title: str, note: str, y_axis: str, points: Points) -> PlaneChart:
    return PlaneChart(
        key=key,
        title=title,
        note=note,
        x_axis="updates",
        y_axis=y_axis,
        lines=(Line(label=title, points=points, tone="accent"),),
        kind="lines",
    )
