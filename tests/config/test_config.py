"""Settings: from YAML and back, recipe under file, and every refusal."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from lmsl.config.config import Config, dump_config, read_config, starting_point
from lmsl.config.recipes import RECIPES
from lmsl.data.formats.options import read_options
from lmsl.errors import InputError

OTHER: dict[str, Any] = {
    "unmask": ("0011", "grid", "0" * 32),
    "groups": 3,
    "model": "012",
    "revision": "1e5",
    "seed": (0, 5, 2**40),
    "recipe": "acl2024",
    "repeat": 2,
    "exit_layer": 3,
    "label_at": "mean",
    "data": "synthetic:0.5",
    "train": Path("Ordner ü/träin: #1.conll"),
    "dev": Path("dev"),
    "test": Path("../test"),
    "format": "columns",
    "tag_column": 4,
    "token_column": 2,
    "separator": ",",
    "scheme": "bioes",
    "strict_tags": True,
    "ignore_tag": "null",
    "split_seed": 9,
    "max_length": 31,
    "overflow": "error",
    "context": 7,
    "words": "char",
    "epochs": 11,
    "max_steps": 12,
    "batch_size": 24,
    "tokens_per_batch": 13,
    "keep_every": 3,
    "lr": 3e-5,
    "schedule": "linear",
    "warmup": 0.125,
    "optimizer": "adamw8bit",
    "beta2": 0.98,
    "epsilon": 1e-5,
    "weight_decay": 1e-20,
    "max_grad_norm": float("inf"),
    "lora_rank": 5,
    "lora_alpha": 7.0,
    "lora_dropout": 0.2,
    "lora_targets": ("q_proj", "yes"),
    "head_dropout": 0.3,
    "loss": "focal",
    "warmup_mntp": 9,
    "quantize": "none",
    "resident": "yes",
    "dtype": "bfloat16",
    "checkpointing": "yes",
    "cuda_graphs": "on",
    "decode": "argmax",
    "calibrate": "no",
    "select": "last",
    "patience": 2,
    "attention": "eager",
    "block": "plain",
    "elementwise": "plain",
    "device": "cuda:1",
}
OF_FULL: dict[str, Any] = {"tune": "full", "quantize": "none", "lr": 1e-5}
OF_ANSWERS: dict[str, Any] = {
    "task": "generate",
    "prompt": "acl2024",
    "chat_template": "no",
    "loss_on": "text",
    "decoding": "sample",
    "temperature": 0.7,
    "top_p": 0.8,
}
WHERE = {"output", "overwrite", "resume", "save_minutes"}


@pytest.fixture
def written(tmp_path: Path) -> Any:
    def write(text: str) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_every_field_survives_yaml(written: Any) -> None:
    names = {field.name for field in fields(Config)}
    assert OTHER.keys() | OF_FULL.keys() | OF_ANSWERS.keys() | WHERE == names
    plain = Config()
    for other in (OTHER, OF_FULL, OF_ANSWERS):
        config = Config(**other)
        assert [name for name in other if getattr(config, name) == getattr(plain, name)] == []
        assert read_config(written(dump_config(config))).items() >= other.items()
        assert replace(plain, **read_config(written(dump_config(config)))) == config
    assert Config(**read_config(written(dump_config(plain)))) == plain


def test_where_a_run_went_is_not_written_down() -> None:
    config = Config(output=Path("there"), overwrite=True, resume=True)
    assert dump_config(config) == dump_config(Config())


def test_a_written_config_can_be_trained_from(written: Any) -> None:
    """It names its recipe, and used to fail with a TypeError for naming it."""
    for name in RECIPES:
        start = starting_point(name, None)
        string = "0000" if start.get("task") == "generate" else "0011"
        config = Config(**{**start, "unmask": (string,), "epochs": 3})
        assert Config(**starting_point(None, written(dump_config(config)))) == config


def test_recipe_under_file_under_command_line(written: Any) -> None:
    file = written("lora-rank: 8\nunmask: ['0011', full]\nlr: 1e-3\n")
    config = Config(**starting_point("acl2024", file))
    assert config.recipe == "acl2024" and config.lora_alpha == 16.0, "from the recipe"
    assert config.lora_rank == 8 and config.lr == 1e-3, "from the file"
    assert config.unmask == ("0011", "full")
    assert Config(**starting_point(None, None)) == Config()
    assert starting_point(None, written("recipe: repetition-sl\n"))["epochs"] == 10
    both = starting_point("acl2024", written("recipe: repetition-sl\n"))
    assert both["recipe"] == "acl2024" and both["epochs"] == 5, "the command line names the recipe"
    assert starting_point(None, written("keep_every: 3\n"))["keep_every"] == 3, "not yet refused"
    with pytest.raises(InputError, match=r"--recipe: expected one of default, acl2024"):
        starting_point("acl", None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("unmask: null", "unmask: expected text in quotes"),
        # YAML 1.1 reads 0011 as the octal number 9.
        ("unmask: 0011", "unmask: expected text in quotes, such as"),
        ("unmask: [0011, 1111]", "unmask: expected text in quotes, such as"),
        ("unmask: 1111", "unmask: expected text in quotes, such as"),
        ("lr: fast", "lr: expected a number or nothing, got 'fast'"),
        ("max_steps: ten", "max_steps: expected a whole number or nothing, got 'ten'"),
        ("max_steps: true", "max_steps: expected a whole number or nothing, got True"),
        ("batch_size: 2.0", "batch_size: expected a whole number, got 2.0"),
        ("batch_size: [1]", r"batch_size: expected a whole number, got \[1\]"),
        ("batch_size:", "batch_size: expected a whole number, got None"),
        ("warmup: true", "warmup: expected a number, got True"),
        ("seed: [1, x]", r"seed: expected one or more of: a whole number, got \[1, 'x'\]"),
        ("seed: 1.5", "seed: expected one or more of: a whole number, got 1.5"),
        ("strict_tags: 'yes'", "strict_tags: expected true or false, got 'yes'"),
        ("strict_tags: 1", "strict_tags: expected true or false, got 1"),
        ("schedule: cosin", "schedule: expected one of cosine, linear, constant, got 'cosin'"),
        ("loss: null", "loss: expected one of ce, focal, got None"),
        ("words: 1", "words: expected one of unicode, whitespace, char, got 1"),
        ("model: 5", "model: expected text, got 5; put it in quotes"),
        ("ignore-tag: no", "ignore-tag: expected text or nothing, got False; put it in quotes"),
        ("revision: 2024-01-01", "revision: expected text or nothing, got .*; put it in quotes"),
        ("train: 5", "train: expected a path or nothing, got 5"),
        ("lora_targets: [1]", r"lora_targets: expected one or more of: text, got \[1\]"),
        ("learning_rate: 1", "unknown setting 'learning_rate'"),
        ("1: 1", "unknown setting 1"),
        ("batch_size: 1\nbatch-size: 2", "batch-size: expected it once, got it twice"),
        ("", "expected `name: value` lines, got None"),
        ("- a", "expected `name: value` lines"),
        ("a: [", "expected YAML, got"),
        ("a: \x00", "expected YAML, got"),
    ],
)
def test_files_are_refused_in_one_line(text: str, message: str, written: Any) -> None:
    with pytest.raises(InputError, match=rf"^--config .*config.yaml: {message}") as caught:
        read_config(written(text))
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.yaml: cannot be read \(No such file"):
        read_config(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"model: \xe4")
    with pytest.raises(InputError, match=r"latin.yaml: expected YAML, got"):
        read_config(tmp_path / "latin.yaml")


def test_yaml_forms_that_mean_the_same(written: Any) -> None:
    """2e-4 and a bare yes are text and true to YAML 1.1."""
    text = "lr: 2e-4\nepsilon: 1e-6\nlora_alpha: 8\nresident: yes\nseed: 4\nunmask: grid\n"
    assert read_config(written(text)) == {
        "lr": 2e-4,
        "epsilon": 1e-6,
        "lora_alpha": 8.0,
        "resident": "yes",
        "seed": (4,),
        "unmask": ("grid",),
    }
    assert read_config(written("resident: no\ntrain: a/b\nlr:\n")) == {
        "resident": "no",
        "train": Path("a/b"),
        "lr": None,
    }


@pytest.mark.parametrize(
    ("values", "message"),
    [
        *(
            ({name: 0}, f"--{name.replace('_', '-')}: expected at least 1, got 0")
            for name in (
                *("groups", "exit_layer", "epochs", "max_steps", "batch_size"),
                *("tokens_per_batch", "keep_every", "lora_rank", "patience"),
            )
        ),
        *(
            ({name: -1}, f"--{name.replace('_', '-')}: expected at least 0, got -1")
            for name in (
                *("repeat", "context", "split_seed"),
                *("lr", "epsilon", "weight_decay", "lora_alpha"),
            )
        ),
        ({"max_length": 1}, "--max-length: expected at least 2, got 1"),
        ({"max_grad_norm": 0.0}, "--max-grad-norm: expected at least 1e-12, got 0.0"),
        ({"lr": float("nan")}, "--lr: expected at least 0, got nan"),
        ({"lr": float("inf")}, "--lr: expected a finite number, got inf"),
        ({"save_minutes": -1.0}, "--save-minutes: expected at least 0, got -1.0"),
        ({"lora_dropout": 1.0}, "--lora-dropout: expected at least 0 and less than 1, got 1.0"),
        ({"head_dropout": -0.1}, "--head-dropout: expected at least 0 and less than 1, got -0.1"),
        ({"warmup": 1.5}, "--warmup: expected at least 0 and less than 1, got 1.5"),
        ({"warmup": float("nan")}, "--warmup: expected at least 0 and less than 1, got nan"),
        ({"beta2": 1.0}, "--beta2: expected at least 0 and less than 1, got 1.0"),
        ({"keep_every": 3}, "--keep-every: expected a divisor of --batch-size 8, got 3"),
        ({"resume": True}, "--resume: expected --output"),
        ({"unmask": ("01", "01")}, "--unmask: expected each value once, got 01 01"),
        ({"seed": (1, 2, 1)}, "--seed: expected each value once, got 1 2 1"),
        ({"seed": (1, -1)}, "--seed: expected one or more from 0, got 1 -1"),
        ({"seed": ()}, "--seed: expected one or more from 0, got none"),
        ({"schedule": "cosin"}, "--schedule: expected one of cosine, linear, constant"),
        ({"batch_size": 1.5}, "--batch-size: expected a whole number, got 1.5"),
        ({"unmask": 11}, "--unmask: expected text in quotes"),
        ({"unmask": ("0011", "0021")}, "unmask: expected only 0 and 1, or one of causal, full"),
        ({"unmask": ""}, "unmask: expected bits such as '0011', got an empty string"),
        *(
            ({"unmask": asked}, "unmask: expected random:N or random:N:SEED with N from 1 to 16")
            for asked in ("random:", "random:0", "random:17", "random:x", "random:3:-1")
        ),
        ({"unmask": "random:5", "groups": 2}, "unmask: expected random:N or random:N:SEED with"),
    ],
    ids=str,
)
def test_values_out_of_range(values: dict[str, Any], message: str) -> None:
    """Misspelt choices and wrong types used to go through as if they were something else."""
    with pytest.raises(InputError) as caught:
        Config(**values)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_python_callers_may_leave_out_brackets_and_paths() -> None:
    given = {"unmask": "0011", "seed": [1, 2], "train": "a.conll", "model": Path("m")}
    whole = {"unmask": ("0011",), "seed": (1, 2), "train": Path("a.conll"), "model": "m"}
    assert Config(**given) == Config(**whole)


def test_read_options_are_those_of_the_run() -> None:
    config = Config(**OTHER)
    options = read_options(config, config.words)
    assert options.labelled
    names = (
        "format",
        "tag_column",
        "token_column",
        "scheme",
        "strict_tags",
        "ignore_tag",
        "words",
    )
    assert {name: getattr(options, name) for name in names} == {n: OTHER[n] for n in names}
