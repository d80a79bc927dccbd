"""Attention to the right, by layer and head, of the string that dev picked."""

from collections.abc import Sequence
from statistics import fmean

from lmsl.errors import InputError
from lmsl.report.figures import GridChart
from lmsl.run_directory.influence import INFLUENCE, RightAttention, read_influence
from lmsl.statistics.analysis import Analysis

TITLE = "Attention to the right, by layer and head"


def attention_grid(analysis: Analysis) -> tuple[GridChart | None, str | None]:
    """The figure, or a line on why there is none; neither where nothing was recorded at all,
    which ``lmsl.report.lines.influence_lines`` counts.

    Raises:
        InputError: a file that cannot be read, or seeds that differ in layers or heads.
    """
    name = analysis.sweep.names[analysis.best]
    runs = analysis.sweep.runs[analysis.best]
    read = [own for run in runs if (own := read_influence(run.folder)) is not None]
    found = [own.attention for own in read if own.attention is not None]
    if not found:
        lacking = (
            f"{TITLE}: the {INFLUENCE} of {name} lacks it; lmsl probe RUN --save adds it, but for "
            "encoders whose attention cannot be reached."
        )
        return None, lacking if read else None
    if len({tuple(map(len, one.heads)) for one in found}) > 1:
        raise InputError(
            f"{runs[0].folder.parent}: expected as many layers and heads in the {INFLUENCE} of "
            "every seed; measure anew with lmsl probe RUN --save"
        )
    mean = _mean(found)
    if not any(mean.even):
        return None, f"{TITLE}: {name} is causal, so that it is 0 in every head."
    chart = GridChart(
        key="attention",
        title=f"{TITLE}: {name}",
        note="The share of its attention that a head gives to what stands to the right of a "
        "sub-word, means over sub-words and seeds, against that of a head that looks evenly at "
        "all it may see. Layer 1 is the nearest to the input; causal layers give 0.",
        x_axis="head",
        y_axis="layer",
        rows=mean.heads,
        even=mean.even,
    )
    return chart, None


def _mean(found: Sequence[RightAttention]) -> RightAttention:
    """Of several seeds; heads are those of one base."""
    layers = zip(*(one.heads for one in found), strict=True)
    return RightAttention(
        heads=tuple(tuple(map(fmean, zip(*seeds, strict=True))) for seeds in layers),
        even=tuple(map(fmean, zip(*(one.even for one in found), strict=True))),
    )
