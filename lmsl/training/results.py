"""What a run reports: its log while it trains, its metrics and files when it is done."""

import json
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lmsl.config.config import Config, dump_config
from lmsl.console import Console
from lmsl.data.tags.sentence import Dataset
from lmsl.data.tags.unseen import surfaces, unseen_counts
from lmsl.data.write import column_lines, in_some_document
from lmsl.errors import InputError
from lmsl.generation.generator import Generator
from lmsl.generation.locate import in_short
from lmsl.generation.respondent import Answered
from lmsl.layers.head import StackedHead, save_head
from lmsl.layers.peft_format import save_adapter
from lmsl.mask.unmasking import stored_string
from lmsl.packs.alignment import CLOSED
from lmsl.packs.examples import Examples
from lmsl.run_directory.card import model_card
from lmsl.run_directory.digests import file_digest
from lmsl.run_directory.files import write_json, write_text
from lmsl.run_directory.folder import MODEL_FILES, final_files
from lmsl.run_directory.influence import INFLUENCE, write_influence
from lmsl.run_directory.info import INFO
from lmsl.run_directory.tensors import write_tensors
from lmsl.tagger.influence import labeler_influence
from lmsl.tagger.labeler import Labeler
from lmsl.tagger.predictor import Tagged
from lmsl.tagger.source import TINY, tiny_folder
from lmsl.training.calibrate import calibrated
from lmsl.training.checkpoint import Progress, remove_checkpoint
from lmsl.training.inputs import Prepared
from lmsl.wording import counted


def write_run(
    trained: Labeler | Generator,
    config: Config,
    folder: Path,
    data: Prepared,
    progress: Progress,
    console: Console,
) -> None:
    """Evaluate the selected weights and write the run directory, ``lmsl.json`` last."""
    metrics = dict[str, Any]()
    plain = trained.info.labels.plain
    known = surfaces(data.splits.train, plain=plain)
    for split, dataset, examples in data.evaluated():
        with console.track(f"evaluating on {split}", "pack", None) as track:
            tagged = trained.tag(dataset.sentences, examples, track)
        if split == "dev":
            # Before anything is said of either split: both are scored as the run is used.
            tagged = calibrated(trained, dataset, tagged, config.calibrate, console.say)
            info = trained.info
        metrics[split] = trained.metrics(dataset, tagged)
        tags = [decoded.tags for decoded in tagged.decoded]
        metrics[split]["unseen"] = unseen_counts(dataset.sentences, tags, known, plain=plain)
        _write_predictions(folder / f"predictions.{split}.conll", dataset, tagged, console)
        if isinstance(tagged, Answered):
            _write_answers(folder / f"answers.{split}.jsonl", tagged)
        console.say(f"  {split}: {summary(metrics[split], plain)}")
    if isinstance(trained, Labeler):
        _record_influence(trained, folder, data.dev, console)
    base_name = str(tiny_folder()) if info.base == TINY else info.base
    tagger = trained.tagger
    kept, _ = stored_string(tagger.decoder)
    card = model_card(
        info,
        config,
        metrics,
        data.name,
        base_name=base_name,
        kept=None if tagger.calling.padded else kept,
        encoder=data.aligner.mode == CLOSED,
    )
    if info.lora is None:
        _save_model(tagger.decoder, folder)
    else:
        save_adapter(tagger.decoder, 0, folder, base_name=base_name, revision=info.revision)
    if isinstance(tagger.head, StackedHead):
        save_head(tagger.head, 0, folder)
    _save_tokenizer(data.tokenizer, folder)
    write_text(folder / "config.yaml", dump_config(config))
    extra = {"selected_epoch": progress.kept_epoch, "train_seconds": round(progress.seconds, 1)}
    write_json(folder / "metrics.json", {**metrics, **extra})
    write_text(folder / "README.md", card)
    assert info.digests is not None
    files = {name: file_digest(folder / name) for name in final_files(folder)}
    info = trained.info = replace(info, digests=replace(info.digests, run=files))
    write_text(folder / INFO, info.to_json())
    remove_checkpoint(folder)
    console.say(f"  trained in {progress.seconds:.0f} s; saved to {folder}")


def summary(metrics: dict[str, Any], plain: bool) -> str:
    """One line for people: F1 with its parts, or accuracy where tags are plain."""
    if plain:
        return (
            f"accuracy {100 * metrics['accuracy']:.2f}, macro-F1 {100 * metrics['macro_f1']:.2f}"
        )
    lost = metrics["lost_to_truncation"]
    return (
        f"F1 {100 * metrics['f1']:.2f} (precision {100 * metrics['precision']:.2f}, recall "
        f"{100 * metrics['recall']:.2f}, {metrics['gold']} gold entities"
        + (f", {lost} of them lost to truncation)" if lost else ")")
        + (in_short(metrics["generation"]) if "generation" in metrics else "")
    )


def _record_influence(labeler: Labeler, folder: Path, dev: Examples, console: Console) -> None:
    """Write ``influence.json``; a run that cannot have it is none the worse for that."""
    try:
        found = labeler_influence(labeler, dev.examples)
        reason = "no sentence of dev has two words"
    except InputError as error:
        found, reason = None, str(error)
    if found is None:
        (folder / INFLUENCE).unlink(missing_ok=True)
        console.say(f"  {INFLUENCE} is not written: {reason}")
    else:
        write_influence(folder, found)


def _write_predictions(path: Path, dataset: Dataset, tagged: Tagged, console: Console) -> None:
    gold: Sequence[Sequence[str]] = [sentence.tags or () for sentence in dataset]
    predicted = [decoded.tags for decoded in tagged.decoded]
    known = any(sentence.document is not None for sentence in dataset)
    sentences = [in_some_document(sentence) for sentence in dataset]
    lines, escaped = column_lines(sentences, gold, predicted, documents=known)
    write_text(path, "".join(f"{line}\n" for line in lines))
    if escaped:
        words = counted(escaped, "word")
        console.say(f"  {path.name}: tabs and line ends of {words} are written as \\t, \\n")


def _write_answers(path: Path, answered: Answered) -> None:
    """A line for each sentence: what was written, null where nothing was asked."""
    lines = [json.dumps({"answer": text}, ensure_ascii=False) for text in answered.answers]
    write_text(path, "".join(f"{line}\n" for line in lines))


def _save_model(decoder: Any, folder: Path) -> None:
    """Save the model itself, as transformers reads it."""
    weights, config = (folder / name for name in MODEL_FILES)
    write_tensors(weights, decoder.state_dict())
    write_text(config, decoder.config.to_json_string(use_diff=True))


def _save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Save a tokenizer, each of its files whole or not at all."""
    with tempfile.TemporaryDirectory(dir=folder, suffix=".tmp", prefix=".tokenizer.") as scratch:
        try:
            tokenizer.save_pretrained(scratch)
        except Exception as error:
            # The tokenizers library reports a full disk as a bare Exception.
            found = re.search(r"\(os error (\d+)\)", str(error))
            if found is None:
                raise
            raise OSError(int(found[1]), os.strerror(int(found[1]))) from error
        for path in Path(scratch).iterdir():
            path.replace(folder / path.name)
