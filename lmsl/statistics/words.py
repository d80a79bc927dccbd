"""The outcome of a comparison in plain sentences, for the console and for the report."""

from lmsl.statistics.analysis import FEW_SEEDS, Agreement, Analysis, Gain
from lmsl.statistics.compare import Difference
from lmsl.statistics.ranks import Correlation, expected_best


def verdict_lines(analysis: Analysis) -> list[str]:
    """Which string, how much better, and whether that is more than noise."""
    lines = [*_exploratory(analysis), _choice(analysis)]
    if len(analysis.sweep.names) > 1:
        lines += [*_noise(analysis), *_causal(analysis)]
        lines += [gain_line(analysis, gain) for gain in analysis.gains]
        lines += _ranks(analysis)
    return lines + list(analysis.sweep.notes)


def percent(rate: float) -> str:
    return f"{100 * rate:.2f}"


def signed(rate: float) -> str:
    """A difference in points, with its sign; a true minus lines up with the plus."""
    return f"{100 * rate:+.2f}".replace("-", "\u2212")


def p_value(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def interval(low: float | None, high: float | None) -> str:
    """`` [low, high]`` of a difference in points; nothing where it is unknown."""
    return "" if low is None or high is None else f" [{signed(low)}, {signed(high)}]"


def difference_text(difference: Difference) -> str:
    return signed(difference.value) + interval(difference.low, difference.high)


def gain_line(analysis: Analysis, gain: Gain) -> str:
    """Gain over always taking one string, with the gain on seeds that did not choose."""
    itself = analysis.sweep.names[analysis.best] == gain.name
    if itself:
        line = f"The choice is {gain.name} itself, so it gains nothing over always taking it."
    else:
        line = (
            f"Over always {gain.name} ({gain.over}) the choice gains "
            f"{difference_text(gain.difference)} on test ({p_value(gain.difference.p)}, "
            "uncorrected)."
        )
    if gain.fresh_seeds is None or (itself and gain.fresh_seeds == 0):
        return line
    return line[:-1] + f"; {signed(gain.fresh_seeds)} on seeds that took no part in the choice."


def correlation_text(correlation: Correlation) -> str:
    if correlation.value is None:
        return "undefined"
    text = f"{correlation.value:.3f}".replace("-", "\u2212")
    if correlation.low is None or correlation.high is None:
        return text
    return text + f" [{correlation.low:.3f}, {correlation.high:.3f}]".replace("-", "\u2212")


def listed(names: list[str], limit: int = 8) -> str:
    """Names, those beyond the limit counted."""
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")


def _exploratory(analysis: Analysis) -> list[str]:
    seeds = len(analysis.sweep.seeds)
    if not analysis.exploratory:
        return []
    runs = "one seed" if seeds == 1 else f"{seeds} seeds"
    rest = (
        "; how much seeds differ is unknown, and intervals speak of these runs alone"
        if seeds == 1
        else ""
    )
    return [f"This is exploratory: {runs} a string, fewer than {FEW_SEEDS}{rest}."]


def _choice(analysis: Analysis) -> str:
    names, best = analysis.sweep.names, analysis.best
    metric, dev = analysis.sweep.metric, analysis.results["dev"]
    text = f"{names[best]} has the best mean {metric} on dev, {percent(dev.means[best])}"
    if len(names) == 1:
        text = f"{names[best]}: mean {metric} on dev {percent(dev.means[best])}"
    if "test" not in analysis.results:
        return text + "; there is no test data to report it on."
    test = analysis.results["test"]
    text += f"; on test it has {percent(test.means[best])}"
    if test.deviations is not None:
        text += f" \u00b1 {percent(test.deviations[best])} over seeds"
    if (found := test.interval(best)) is not None:
        text += f", 95 % interval {percent(found[0])} to {percent(found[1])}"
    return text + "."


def _noise(analysis: Analysis) -> list[str]:
    """Is the winner distinguishable from the others, and what would luck alone give?"""
    names, dev = analysis.sweep.names, analysis.results["dev"]
    best = names[analysis.best]
    order = sorted(range(len(names)), key=lambda index: -dev.means[index])
    tied = [names[i] for i in order if dev.tied[i] and i != analysis.best]
    if dev.half_widths is None:
        lines = [f"{best} is not distinguishable from noise: there is too little to resample."]
    elif tied:
        are = "string is" if len(tied) == 1 else "strings are"
        lines = [
            f"{best} is not distinguishable from noise: on dev {len(tied)} other {are} tied with "
            f"it (95 % confidence): {listed(tied)}."
        ]
    else:
        among = " for these seeds" if len(analysis.sweep.seeds) == 1 else ""
        lines = [
            f"{best} is distinguishable from noise{among}: on dev no other string is tied with it "
            "(95 % confidence)."
        ]
    if analysis.luck is not None and analysis.seed_deviation is not None:
        count, seeds = len(names), len(analysis.sweep.seeds)
        share = expected_best(count) / seeds**0.5
        lines.append(
            f"Picking the best of {count} equal strings with {seeds} seeds each would gain "
            f"{share:.2f} standard deviations of a seed, {percent(analysis.luck)} points on dev, "
            "for nothing."
        )
    return lines


def _causal(analysis: Analysis) -> list[str]:
    if analysis.causal is None or analysis.causal == analysis.best:
        return []
    family = analysis.results[analysis.reported].against_causal
    found = None if family is None else family[analysis.best]
    assert found is not None
    name = analysis.sweep.names[analysis.causal]
    return [
        f"Against {name} (causal) it is {difference_text(found)} on {analysis.reported} "
        f"({p_value(found.p)}, Holm-corrected)."
    ]


def _ranks(analysis: Analysis) -> list[str]:
    """How well dev ranks the strings for test, with and without the causal ones."""
    if analysis.agreement is None or analysis.agreement.strings < 3:
        return []
    text = f"Dev and test rank the strings alike by {_both(analysis.agreement)}"
    if (rest := analysis.agreement_unmasked) is not None and rest.strings >= 3:
        text += f"; without the causal ones by {_both(rest)}"
    return [text + "."]


def _both(agreement: Agreement) -> str:
    return (
        f"Spearman {correlation_text(agreement.spearman)}, "
        f"Kendall {correlation_text(agreement.kendall)}"
    )
