"""spaCy's NER over its tok2vec, without pre-trained vectors, by spaCy's own training.

The configuration is that of ``spacy init config --lang en --pipeline ner --optimize efficiency``:
dropout 0.1, a rate of 1e-3, at most 20,000 updates, evaluated every 200 and stopped after 1,600
without a better F1 on dev, whose best weights are kept.
"""

import io
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.study.peer import Fitted, Tags
from lmsl.data.tags.schemes import tag_spans
from lmsl.data.tags.sentence import Dataset

_LANGUAGE = "en"


def fit_spacy(train: Dataset, dev: Dataset, *, seed: int) -> Fitted:
    """The pipeline whose dev score is best."""
    import spacy
    from spacy.cli.init_config import init_config
    from spacy.training.initialize import init_nlp
    from spacy.training.loop import train as train_spacy

    with tempfile.TemporaryDirectory() as passing:
        folder = Path(passing)
        paths = {"train": folder / "train.spacy", "dev": folder / "dev.spacy"}
        for name, data in (("train", train), ("dev", dev)):
            _write(paths[name], data)
        config = init_config(
            lang=_LANGUAGE, pipeline=["ner"], optimize="efficiency", gpu=False
        ).copy()
        config["paths"] |= {name: str(path) for name, path in paths.items()}
        config["training"]["seed"] = seed
        config["training"]["logger"] = {
            "@loggers": "spacy.ConsoleLogger.v3",
            "progress_bar": None,
            "console_output": False,
            "output_file": str(folder / "log.jsonl"),
        }
        nlp = init_nlp(config)
        said = io.StringIO()
        (folder / "out").mkdir()
        train_spacy(nlp, folder / "out", stdout=said, stderr=said)
        tagger = spacy.load(folder / "out" / "model-best")
        updates = _updates(folder / "log.jsonl")

    def predict(data: Dataset) -> Tags:
        docs = [_doc(tagger.vocab, sentence.words) for sentence in data]
        return [
            tuple(f"{word.ent_iob_}-{word.ent_type_}" if word.ent_type_ else "O" for word in doc)
            for doc in tagger.pipe(docs)
        ]

    return predict, f"spaCy {spacy.__version__}, {updates} updates"


def _write(path: Path, data: Dataset) -> None:
    import spacy
    from spacy.tokens import DocBin, Span

    vocab = spacy.blank(_LANGUAGE).vocab
    docs = []
    for sentence in data:
        doc = _doc(vocab, sentence.words)
        doc.set_ents(
            [
                Span(doc, one.start, one.end, label=one.type)
                for one in tag_spans(sentence.tags or ())
            ]
        )
        docs.append(doc)
    DocBin(docs=docs).to_disk(path)


def _doc(vocab: Any, words: tuple[str, ...]) -> Any:
    from spacy.tokens import Doc

    return Doc(vocab, words=list(words))


def _updates(log: Path) -> int:
    """The last update that was logged."""
    import json

    lines = log.read_text(encoding="utf-8").splitlines()
    return int(json.loads(lines[-1])["step"]) if lines else 0
