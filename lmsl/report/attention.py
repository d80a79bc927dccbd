"""Attention to the right, by layer and head, of the string that dev picked."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from lmsl.errors import InputError
from lmsl.report.figures import GridChart
from lmsl.run_directory.influence import INFLUENCE, RightAttention, read_influence
from lmsl.statistics.analysis import Analysis

TITLE = "Attention to the right, by layer and head"


def attention_grid(analysis: Analysis) -> tuple[GridChart | None, str | None]:
    """The figure of a sweep; see ``attention_of``."""
    runs = analysis.sweep.runs[analysis.best]
    return attention_of(analysis.sweep.names[analysis.best], [run.folder for run in runs])


def attention_of(name: str, folders: Sequence[Path]) -> tuple[GridChart | None, str | None]:
    """The figure of the runs of one string, or a line on why there is none; neither where nothing
    was recorded at all, which ``lmsl.report.lines`` says.

    Raises:
        InputError: a file that cannot be read, or seeds that differ in layers or heads.
    """
    read = [own for folder in folders if (own := read_influence(folder)) is not None]
    found = [own.attention for own in read if own.attention is not None]
    if not found:
        lacking = (
            f"{TITLE}: the {INFLUENCE} of {name} lacks it; lmsl probe RUN --save adds it, but for "
            "encoders whose attention cannot be reached."
        )
        return None, lacking if read else None
    if len({tuple(map(len, one.heads)) for one in found}) > 1:
        raise InputError(
            f"{folders[0].parent}: expected as many layers and heads in the {INFLUENCE} of "
            "every seed; measure anew with lmsl probe RUN --save"
        )
    mean = _mean(found)
    if not any(mean.even):
        return None, f"{TITLE}: {name} is causal, so that it is 0 in every head."
    over = " and seeds" if len(folders) > 1 else ""
    chart = GridChart(
        key="attention",
        title=f"{TITLE}: {name}",
        note="The share of its attention that a head gives to what stands to the right of a "
        f"sub-word, means over sub-words{over}, against that of a head that looks evenly at "
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
