"""The help of every command: examples, the flags most asked for, and groups of all."""

from lmsl.cli.help import Groups, Help

_FILES = ("format", "tag_column", "token_column", "separator", "scheme", "ignore_tag")
_TELLING = ("quiet", "verbose")

_TRAINING: Groups = {
    "what is trained": (
        *("unmask", "model", "seed", "recipe", "config", "task", "tune", "groups", "revision"),
        *("label_at", "repeat", "exit_layer"),
    ),
    "data": (
        *("data", "train", "dev", "test", "split_seed", *_FILES, "strict_tags", "words"),
        *("max_length", "overflow", "context"),
    ),
    "how it learns": (
        *("epochs", "max_steps", "batch_size", "lr", "schedule", "warmup", "optimizer", "beta2"),
        *("epsilon", "weight_decay", "max_grad_norm", "lora_rank", "lora_alpha", "lora_dropout"),
        *("lora_targets", "head_dropout", "loss", "keep_every", "warmup_mntp"),
    ),
    "how it answers": ("decode", "calibrate", "select", "patience"),
    "speed and memory": (
        *("device", "quantize", "dtype", "tokens_per_batch", "checkpointing", "resident"),
        *("attention", "block", "elementwise", "cuda_graphs"),
    ),
    "writing entities, for --task generate": (
        *("prompt", "chat_template", "loss_on", "decoding", "temperature", "top_p"),
    ),
    "where it goes, and what it says": (
        *("output", "overwrite", "resume", "save_minutes", *_TELLING, "json"),
    ),
}
_MOST_ASKED = (
    *("unmask", "data", "train", "dev", "test", "model", "output", "seed", "epochs", "batch_size"),
    *("lr", "recipe", "resume"),
)
_LOADED = {
    "how the run is loaded": (
        *("device", "quantize", "attention", "resident", "cuda_graphs", "allow_changed_base"),
    ),
    "how sure it has to be": ("threshold",),
    "what it says": _TELLING,
}

HELP: dict[str, Help] = {
    "train": Help(
        examples={
            "lmsl train": "the model in this package on a generated task, in two or three minutes",
            "lmsl train --data DIR --model mistralai/Mistral-7B-v0.3": "your data, a model of 7B",
            "lmsl train --unmask 0000 0011 1111 --seed 1 2 3 --data DIR": "nine runs, compared",
            "lmsl train --config runs/1/config.yaml": "a run again",
        },
        first=_MOST_ASKED,
        groups=_TRAINING,
    ),
    "sweep": Help(
        examples={
            "lmsl sweep --unmask grid --seed 1 2 3 --data DIR": "all sixteen strings",
            "lmsl sweep --unmask grid --mode oneshot --top 3 --data DIR": "the likely best alone",
            "lmsl sweep --unmask grid --data DIR --output runs/2 --resume": "go on",
        },
        first=(*_MOST_ASKED, "stack", "prune", "mode"),
        groups={"many runs": ("stack", "prune", "mode", "top", "short_grid"), **_TRAINING},
    ),
    "predict": Help(
        examples={
            "lmsl predict runs/1 new.txt > answers.jsonl": "entities with characters and scores",
            "lmsl predict runs/1 new.conll --output columns": "a tag behind every word",
            "lmsl predict runs/1 new.txt --html new.html": "and a page to look at",
            "echo 'Ada Lovelace met Babbage.' | lmsl predict runs/1": "from a pipe",
        },
        groups={
            "what is read and written": ("format", "token_column", "separator", "output", "html"),
            **_LOADED,
        },
    ),
    "evaluate": Help(
        examples={
            "lmsl evaluate runs/1 test.conll": "precision, recall and F1, in all and per type",
            "lmsl evaluate runs/1 test.conll --right-context": "what the right context is worth",
            "lmsl evaluate runs/1 --perplexity TEXT": "is it a language model still?",
        },
        groups={
            "what is measured": (
                *("predictions", "operating_points", "right_context", "perplexity"),
                "continuations",
            ),
            "how files are read": (*_FILES, "strict_tags"),
            **_LOADED,
        },
    ),
    "report": Help(
        examples={
            "lmsl report runs/1": "what a run does wrong",
            "lmsl report runs/grid": "which string, and whether that is more than noise",
        },
        groups={"what is written": ("output", "png"), "what it says": _TELLING},
    ),
    "data": Help(
        examples={
            "lmsl data check train.conll dev.conll test.conll": "before training on them",
            "lmsl data convert in.conll --to json --output out.jsonl": "another format",
        },
        groups={
            "what is done": (
                *("to", "output", "tokenizer", "words", "right_dependency", "parser", "json"),
            ),
            "how files are read": (*_FILES, "strict_tags"),
            "what it says": _TELLING,
        },
    ),
    "probe": Help(
        examples={
            "lmsl probe tiny --unmask 0011": "a model",
            "lmsl probe runs/1 --data dev.conll": "a run, and how far the right context moves it",
        },
        groups={
            "what is measured": ("unmask", "data", "save", "json", "device", "allow_changed_base"),
            "what it says": _TELLING,
        },
    ),
}
