"""Everything a training run can be told, in one flat frozen dataclass.

The command line is made from it: a field is a flag, the text under it is its help. The resolved
values, but for where the run went, are written to ``config.yaml`` in every run directory:
``python train.py --config RUN/config.yaml`` repeats the run.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_type_hints

import yaml

from lmsl.config.choices import (
    Attention,
    Block,
    Calibrate,
    ChatTemplate,
    Checkpointing,
    CudaGraphs,
    Decoding,
    Dtype,
    Elementwise,
    LabelAt,
    Loss,
    LossOn,
    Optimizer,
    Overflow,
    PromptName,
    Quantize,
    Resident,
    Schedule,
    Select,
    Task,
    Tune,
)
from lmsl.config.hints import converted, described, fits
from lmsl.config.ranges import check_range
from lmsl.config.recipes import recipe
from lmsl.config.strings import DEFAULT_GROUPS, check_asked
from lmsl.config.tasks import settled
from lmsl.data.documents import read_yaml
from lmsl.data.formats.options import Columns, WordMode
from lmsl.data.tags.decode import Decoder
from lmsl.errors import InputError
from lmsl.wording import quoted

DEFAULT_STRING = "0011"
"""Of a decoder: layers near the output see both sides, those near the input keep the mask."""


@dataclass(frozen=True, kw_only=True)
class Config(Columns):
    """A training run; several unmask strings or seeds make several runs.

    >>> config = lmsl.Config(unmask=("0011",), data="synthetic:0.8", max_steps=100)
    >>> config.batch_size, config.seed, config.lr
    (8, (1,), None)
    >>> lmsl.Config(unmask=("0011",), epochs=0)
    Traceback (most recent call last):
    lmsl.errors.InputError: --epochs: expected at least 1, got 0
    """

    # What is trained.
    task: Task = "label"
    """`label`: a tag for each word. `generate`: the model writes spans and types; it stays causal,
    and --unmask may be left out."""
    unmask: tuple[str, ...] = ()
    """One or more unmask strings: a bit for each layer group, the leftmost nearest the input, 1 =
    bidirectional; or causal, full, middle, grid, random:N (N different strings). By default 0011,
    and `full` for an encoder."""
    groups: int = DEFAULT_GROUPS
    """Layer groups that `grid` and `random:N` are made of."""
    model: str = "tiny"
    """Hub id or folder of a decoder or an encoder, a GGUF file, or `tiny`, the small decoder
    inside this package."""
    revision: str | None = None
    """Commit or branch of a hub model."""
    seed: tuple[int, ...] = (1,)
    """One or more seeds; each fixes initial values, order and dropout."""
    recipe: str = "default"
    """Where the values not given come from: default, acl2024, acl2024-released, acl2024-generate,
    repetition-sl."""
    repeat: int = 0
    """Extra copies of the sentence before the one that is read."""
    exit_layer: int | None = None
    """Keep only the first N layers of the model."""
    label_at: LabelAt = "last"
    """Where a word is read: its first or last sub-word, or the mean of all."""

    # Data.
    data: str | None = None
    """Folder with train.*, dev.* and test.*; or `synthetic:DIAL`; or a Hugging Face dataset."""
    train: Path | None = None
    """File or folder to train on."""
    dev: Path | None = None
    """File or folder to select on; without one a tenth of train is held out."""
    test: Path | None = None
    """File or folder to report on."""
    split_seed: int = 0
    """Which part of train is held out as dev."""
    max_length: int = 256
    """Longest input in sub-words, one copy of the sentence counted."""
    overflow: Overflow = "window"
    """What happens to longer sentences."""
    context: int = 0
    """Words of neighbouring sentences of the same document on each side, never scored."""
    words: WordMode = "unicode"
    """How raw text is split into words."""

    # How it asks and answers, for --task generate.
    prompt: PromptName = "default"
    """For --task generate: what is asked and how answers list spans; `acl2024` as in the paper."""
    chat_template: ChatTemplate = "auto"
    """For --task generate: ask in the chat template of the tokenizer, where it has one; or not."""
    loss_on: LossOn = "answer"
    """For --task generate: train on the answer alone, or on the prompt too."""
    decoding: Decoding = "greedy"
    """For --task generate: take the likeliest sub-word, or draw one by temperature and top-p."""
    temperature: float = 1.0
    """For --decoding sample: logits are divided by it."""
    top_p: float = 1.0
    """For --decoding sample: draw among the likeliest sub-words that hold this probability."""

    # How it is trained.
    tune: Tune = "lora"
    """Adapters over frozen weights, or all weights."""
    epochs: int | None = None
    """Passes over the training data; by default 4, and more where that would be too few updates to
    learn from."""
    max_steps: int | None = None
    """Stop after this many updates."""
    batch_size: int = 8
    """Sentences of one update."""
    tokens_per_batch: int = 8192
    """Cap on the tokens of one packed micro-batch inside an update."""
    keep_every: int = 1
    """Train on the last of every N equal parts of an update (acl2024-released)."""
    lr: float | None = None
    """Peak learning rate; by default chosen by the width of the model, and printed."""
    warmup_mntp: int = 0
    """Updates of masked next-token prediction on the training text, of adapters alone, before
    labels are learnt (LLM2Vec)."""
    schedule: Schedule = "cosine"
    """How the rate falls after warm-up."""
    warmup: float = 0.1
    """Share of the updates over which the rate rises."""
    optimizer: Optimizer = "adamw"
    """Fused AdamW or the 8-bit one of bitsandbytes; `auto` takes the latter on CUDA."""
    beta2: float = 0.95
    """Decay of AdamW's second moment; the first is 0.9."""
    epsilon: float = 1e-8
    """AdamW's epsilon."""
    weight_decay: float = 0.1
    """Of adapter and head matrices."""
    max_grad_norm: float = 1.0
    """Gradients of a run are clipped to this norm."""
    lora_rank: int = 16
    """Inner size of the adapters."""
    lora_alpha: float = 32.0
    """Adapters are scaled by alpha / rank."""
    lora_dropout: float = 0.1
    """Dropout of the adapters' input."""
    lora_targets: tuple[str, ...] = ("attention",)
    """Names of the adapted layers, or a word for many: `query-value`, `attention` (with key and
    output), `all-linear`."""
    head_dropout: float = 0.1
    """Dropout of the classifier's input."""
    loss: Loss = "ce"
    """Cross-entropy, or focal loss with gamma 2."""
    quantize: Literal["auto", "nf4", "none"] = "auto"
    """Format of the frozen weights; `auto`: nf4, and none where all weights are trained."""
    resident: Resident = "auto"
    """Keep the dequantised weights in memory."""
    dtype: Dtype = "auto"
    """Arithmetic of the frozen model; `auto`: bfloat16 on CUDA, float32 on CPU."""
    checkpointing: Checkpointing = "auto"
    """Recompute activations in the backward pass instead of keeping them, in every layer; `auto`
    in as many as have to, for the others to fit into memory."""
    cuda_graphs: CudaGraphs = "off"
    """Capture the training step, and the forward of evaluations on dev, in CUDA graphs and replay
    them; how much that gains was not measured yet."""
    decode: Decoder = "viterbi"
    """How labels are chosen, in evaluation and prediction alike."""
    calibrate: Calibrate = "auto"
    """Fit a temperature for the probabilities of entities on dev; `auto` where it holds enough."""
    select: Select = "best-dev"
    """Which epoch's weights are kept."""
    patience: int | None = None
    """Stop after this many epochs without a better dev score."""
    attention: Attention = "auto"
    """Who computes attention."""
    block: Block = "auto"
    """Whose forward runs the layers: `plain` is transformers', `own` a faster one for Llama,
    Mistral, Qwen2 and Qwen3; `auto` takes the faster where it fits."""
    elementwise: Elementwise = "auto"
    """Who computes norms, rotation and SwiGLU in the faster forward; `auto` takes Triton's kernels
    on CUDA, `plain` is torch."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`; `auto` takes CUDA where there is one."""

    # Where it goes.
    output: Path | None = None
    """Run directory, or the folder of several: OUTPUT/<unmask>/seed<k>. By default the next free
    one of runs/1, runs/2, ..."""
    overwrite: bool = False
    """Replace a run that is already there."""
    resume: bool = False
    """Go on with an interrupted run."""
    save_minutes: float = 10.0
    """Write a checkpoint whenever so many minutes have passed, inside an epoch too."""

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(Config).items():
            value = _typed(_flag(name), name, getattr(self, name), hint)
            object.__setattr__(self, name, value)
            if not isinstance(value, tuple):
                check_range(_flag(name), name, value)
        for name, value in settled(self).items():
            object.__setattr__(self, name, value)
        if self.batch_size % self.keep_every:
            raise InputError(
                f"--keep-every: expected a divisor of --batch-size {self.batch_size}, "
                f"got {self.keep_every}"
            )
        if self.tune == "full" and self.quantize == "nf4":
            raise InputError("--quantize nf4: expected none, --tune full freezes nothing")
        if self.resume and self.output is None:
            raise InputError("--resume: expected --output with the folder of the interrupted run")
        for name in ("unmask", "seed"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise InputError(f"{_flag(name)}: expected each value once, got {_spaced(values)}")
        for string in self.unmask:
            check_asked(string, self.groups)
        if min(self.seed, default=-1) < 0:
            raise InputError(
                f"--seed: expected one or more from 0, got {_spaced(self.seed) or 'none'}"
            )

    def of_strings(self, strings: tuple[str, ...], seeds: tuple[int, ...]) -> "Config":
        """The same for strings that `grid` and the like may have stood for."""
        return replace(self, unmask=strings, seed=seeds, groups=DEFAULT_GROUPS)

    @property
    def frozen(self) -> Quantize:
        """The format of the frozen weights, made definite."""
        if self.quantize == "auto":
            return "nf4" if self.tune == "lora" else "none"
        return self.quantize


_WHERE = ("output", "overwrite", "resume", "save_minutes")


def starting_point(recipe_name: str | None, file: Path | None) -> dict[str, Any]:
    """The settings before the command line: those of the recipe, then those of the file.

    What does not go together is not refused yet: the command line may still change it.
    """
    settings = read_config(file) if file else {}
    name = recipe_name or settings.get("recipe", "default")
    return {**recipe(name), **settings, "recipe": name}


def read_config(file: Path) -> dict[str, Any]:
    """The settings of a YAML file, checked for names and types.

    Raises:
        InputError: the file is missing, not a YAML mapping, or holds unknown or ill-typed values.
    """
    loaded = read_yaml(file, "--config")
    if not isinstance(loaded, dict):
        raise InputError(f"--config {file}: expected `name: value` lines, got {quoted(loaded)}")
    hints = get_type_hints(Config)
    settings: dict[str, Any] = {}
    for key, value in loaded.items():
        name = str(key).replace("-", "_")
        if name not in hints:
            raise InputError(f"--config {file}: unknown setting {quoted(key)}")
        if name in settings:
            raise InputError(f"--config {file}: {key}: expected it once, got it twice")
        settings[name] = _typed(f"--config {file}: {key}", name, value, hints[name])
    return settings


def _typed(place: str, name: str, value: Any, hint: Any) -> Any:
    """A value in the form of its field; refuses one of another type."""
    found = converted(value, hint)
    if fits(found, hint):
        return found
    if name == "unmask":
        raise InputError(f'{place}: expected text in quotes, such as "0011", got {quoted(value)}')
    advice = "; put it in quotes" if fits(str(value), hint) and value is not None else ""
    raise InputError(f"{place}: expected {described(hint)}, got {quoted(value)}{advice}")


def dump_config(config: Config) -> str:
    """YAML that `read_config` reads back: what is trained and how, not where it goes."""
    values = {}
    for field in fields(Config):
        if field.name in _WHERE:
            continue
        value = getattr(config, field.name)
        if isinstance(value, Path):
            value = str(value)
        values[field.name] = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _spaced(values: tuple[Any, ...]) -> str:
    return " ".join(map(str, values))
