"""Sweeps as training would leave them, written without training: tags are drawn, not learned."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lmsl.data.tags.metrics import score
from lmsl.data.tags.schemes import tag_spans
from lmsl.data.tags.sentence import Sentence
from lmsl.data.tags.vocabulary import LabelSet
from lmsl.data.write import write_columns
from lmsl.report.write import figures, page
from lmsl.run_directory.digests import Digests
from lmsl.statistics.analysis import analyse
from tests.run_directory.test_folder import INFO_OF_A_RUN

Tags = Sequence[Sequence[str]]


def sentences(count: int, seed: int = 0, types: Sequence[str] = ("LOC", "PER")) -> list[Sentence]:
    """Sentences of 4 to 14 words with one to three entities."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        length = int(rng.integers(4, 15))
        tags = ["O"] * length
        for start in range(0, length - 2, 4):
            kind = types[int(rng.integers(len(types)))]
            tags[start] = f"B-{kind}"
            if rng.random() < 0.5:
                tags[start + 1] = f"I-{kind}"
        words = tuple(f"w{number}.{place}" for place in range(length))
        made.append(Sentence(words=words, tags=tuple(tags)))
    return made


def noisy(gold: Sequence[Sentence], wrong: float, seed: Sequence[int]) -> Tags:
    """The gold tags with a share of the entities lost, renamed, shortened or made up."""
    rng = np.random.default_rng(seed)
    kinds = sorted({tag[2:] for s in gold for tag in s.tags or () if "-" in tag}) or ["LOC"]
    drawn = []
    for sentence in gold:
        tags = list(sentence.tags or ())
        for span in tag_spans(tags):
            if rng.random() >= wrong:
                continue
            action = int(rng.integers(3))
            tags[span.start : span.end] = ["O"] * (span.end - span.start)
            if action == 1:
                tags[span.start] = f"B-{kinds[int(rng.integers(len(kinds)))]}"
            elif action == 2:
                tags[span.start] = f"B-{span.type}"
        for place in range(len(tags) - 1):
            if tags[place] == tags[place + 1] == "O" and rng.random() < wrong / 8:
                tags[place] = f"B-{kinds[0]}"
        drawn.append(tuple(tags))
    return drawn


def write_run(
    folder: Path,
    unmask: str,
    seed: int,
    splits: Mapping[str, tuple[Sequence[Sentence], Tags]],
    *,
    plain: bool = False,
    seconds: float = 60.0,
    labels: LabelSet | None = None,
) -> Path:
    """The directory of a finished run with the given predictions."""
    folder.mkdir(parents=True)
    metrics, found = {}, {"O"}
    for split, (gold, tags) in splits.items():
        write_columns(
            folder / f"predictions.{split}.conll", gold, [s.tags or () for s in gold], tags
        )
        metrics[split] = score(gold, tags, plain=plain)
        found |= {tag for sentence in gold for tag in sentence.tags or ()}
    known = labels or LabelSet(tuple(sorted(found)), plain=plain)
    known_info = replace(INFO_OF_A_RUN, labels=known, decode="viterbi", digests=Digests())
    info = replace(known_info, unmask=unmask, seed=seed)
    (folder / "lmsl.json").write_text(info.to_json(), encoding="utf-8")
    document = {**metrics, "train_seconds": seconds}
    (folder / "metrics.json").write_text(json.dumps(document), encoding="utf-8")
    dev = {key: value for key, value in metrics["dev"].items() if key != "per_type"}
    lines = [
        {"step": step, "epoch": epoch, "dev": {**dev, "f1": dev["f1"] * epoch / 3}}
        for epoch, step in enumerate((10, 20, 30), start=1)
    ]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (folder / "log.jsonl").write_text(text, encoding="utf-8")
    return folder


def write_sweep(
    folder: Path,
    wrong: Mapping[str, float],
    seeds: Sequence[int] = (1, 2, 3, 4, 5),
    *,
    size: int = 60,
    test: bool = True,
    types: Sequence[str] = ("LOC", "PER"),
) -> Path:
    """A sweep in which each string errs on the given share of the entities."""
    gold = {"dev": sentences(size, 1, types), "test": sentences(size, 2, types)}
    if not test:
        del gold["test"]
    for number, (string, share) in enumerate(wrong.items()):
        for seed in seeds:
            splits = {
                split: (made, noisy(made, share, (number, seed, len(split))))
                for split, made in gold.items()
            }
            write_run(folder / string / f"seed{seed}", string, seed, splits, seconds=50 + seed)
    return folder


def write_oneshot(
    folder: Path, dev: Mapping[str, float], short_grid: Mapping[str, float] | None = None
) -> Path:
    """The result of a one-shot in the folder of a sweep, with these scores of its candidates."""
    rows: list[dict[str, Any]] = [{"unmask": name, "dev": score} for name, score in dev.items()]
    document: dict[str, Any] = {
        "metric": "f1",
        "ranking": sorted(dev, key=dev.__getitem__, reverse=True),
        "candidates": rows,
        "share_of_grid": {"updates": 0.0625},
    }
    if short_grid is not None:
        for row in rows:
            row["short_grid"] = short_grid[row["unmask"]]
        document["short_grid"] = {"share_of_grid": {"updates": 0.1}}
    path = folder / "oneshot" / "oneshot.json"
    path.parent.mkdir()
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def html_of(folder: Path) -> str:
    """The page of a sweep."""
    analysis = analyse(folder)
    return page(analysis, figures(analysis))
