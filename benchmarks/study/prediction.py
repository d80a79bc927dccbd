"""Seconds for 1,000 words of a loaded run, on the last line.

python -m benchmarks.study.prediction RUN FILE
"""

import sys
import time
from pathlib import Path
from statistics import median

from benchmarks.shared.labelled import prepare
from lmsl.data.read import read
from lmsl.generation.generator import load_run

_CALLS = 3


def main(run: Path, file: Path) -> None:
    """Predict once to warm up, then a few times by the clock."""
    prepare(None)
    sentences = [list(sentence.words) for sentence in read(file)]
    labeler = load_run(run, device="cpu")
    labeler.predict_tags(sentences)
    seconds = []
    for _ in range(_CALLS):
        began = time.perf_counter()
        labeler.predict_tags(sentences)
        seconds.append(time.perf_counter() - began)
    print(1e3 * median(seconds) / sum(map(len, sentences)))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
