"""A base model in a GGUF file: the same model, with the numbers that the file holds."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter, quants

import lmsl
from lmsl.run_directory.card import _places
from lmsl.tagger.base import load_base, load_tokenizer
from lmsl.tagger.source import find_source, from_hub, tiny_folder
from tests.small_runs import evaluated, metrics_of, refused, train

NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny` as llama.cpp would write it: its queries and keys in 8 bits, the rest in full."""
    path = tmp_path_factory.mktemp("gguf") / "Tiny-Q8.gguf"
    model = load_base("tiny").decoder
    config, tokenizer = model.config, load_base("tiny").tokenizer
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    text = json.loads((tiny_folder() / "tokenizer.json").read_text(encoding="utf-8"))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get))
    writer.add_token_merges([" ".join(pair) for pair in text["model"]["merges"]])
    writer.add_bos_token_id(0)
    writer.add_pad_token_id(1)
    for name, weight in model.state_dict().items():
        add_tensor(writer, config, name.removesuffix(".weight"), weight.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_tensor(writer: Any, config: Any, name: str, weight: np.ndarray) -> None:
    if not name.startswith("layers."):
        own = {"embed_tokens": "token_embd", "norm": "output_norm"}[name]
        writer.add_tensor(f"{own}.weight", weight)
        return
    _, number, part = name.split(".", 2)
    own = f"blk.{number}.{NAMES[part]}.weight"
    if part not in ("self_attn.q_proj", "self_attn.k_proj"):
        writer.add_tensor(own, weight)
        return
    # llama.cpp turns neighbouring features where transformers turns halves.
    heads = config.num_attention_heads if "q_proj" in part else config.num_key_value_heads
    halves = weight.reshape(heads, 2, -1, weight.shape[1])
    weight = halves.swapaxes(1, 2).reshape(weight.shape)
    kind = GGMLQuantizationType.Q8_0
    writer.add_tensor(own, quants.quantize(weight, kind), raw_dtype=kind)


def test_it_holds_the_same_model_to_its_own_precision(
    file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    base, tiny = load_base(str(file)), load_base("tiny")
    assert capfd.readouterr().err == "", "bars of reading it"
    assert base.depth == 8 and base.folder == file and base.kind == "decoder"
    assert base.notes == (
        "base: Tiny-Q8.gguf holds F32 (89 %), Q8_0 (11 %), dequantised to float32",
    )
    for name, weight in tiny.decoder.state_dict().items():
        own = base.decoder.state_dict()[name]
        if "q_proj" in name or "k_proj" in name:
            assert 0 < (own - weight).abs().max() <= weight.abs().max() / 127, name
        else:
            assert torch.equal(own, weight), name
    text = "Ada met Babbage in caf\u00e9 \u65e5."
    ids = tiny.tokenizer(text, add_special_tokens=False)["input_ids"]
    # A GGUF file does not say that texts begin with a space.
    for tokenizer in (base.tokenizer, load_tokenizer(str(file))):
        assert tokenizer(f" {text}", add_special_tokens=False)["input_ids"] == ids


def test_a_run_on_it_saves_loads_and_notices_another_file(
    file: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / file.name
    own.write_bytes(file.read_bytes())
    run = train(data, tmp_path / "run", "--model", str(own), "--max-steps", "2")
    said = capsys.readouterr().err
    assert "Q8_0 (11 %), dequantised to float32" in said and "fast forward" in said
    assert evaluated(run, data / "dev.conll", capsys) == metrics_of(run)["dev"]
    assert f'base = "PATH OF THIS FOLDER", "{tmp_path}"' in (run / "README.md").read_text()
    assert f'gguf_file="{own.name}"' in (run / "README.md").read_text()
    changed = bytearray(own.read_bytes())
    changed[-1] ^= 1
    own.write_bytes(changed)
    refused(capsys, ["evaluate", str(run), str(data / "dev.conll")], str(own), "changed since")
    own.unlink()
    refused(capsys, ["evaluate", str(run), str(data / "dev.conll")], "found no such file")


@pytest.mark.parametrize("kept", [4, 20, 24, 5000, 100_000, -1], ids=str)
def test_a_file_that_broke_off_is_called_incomplete(
    kept: int, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Inside the header, a name, the vocabulary, the last tensor: each raises another error."""
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(file.read_bytes()[:kept])
    size = f"the GGUF file is incomplete or damaged ({cut.stat().st_size:,} bytes)"
    refused(capsys, ["probe", str(cut)], f"--model {cut}: cannot be loaded: {size}")
    with pytest.raises(lmsl.InputError, match="its tokenizer cannot be loaded: the GGUF file is"):
        load_tokenizer(str(cut))


def test_it_is_known_by_its_first_bytes_and_a_folder_by_being_one(
    file: Path, tmp_path: Path
) -> None:
    renamed, folder = tmp_path / "renamed.bin", tmp_path / "folder.gguf"
    renamed.write_bytes(file.read_bytes())
    shutil.copytree(tiny_folder(), folder)
    assert not from_hub(str(renamed))
    base = load_base(str(renamed))
    assert base.folder == renamed and base.notes[0].startswith("base: renamed.bin holds F32")
    assert f'gguf_file="{renamed.name}"' in _places(str(renamed))[1]
    assert load_base(str(folder)).folder == folder


def test_what_is_no_gguf_file_is_said(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    (tmp_path / "text.GGUF").write_text("Ada")
    (tmp_path / "empty.gguf").touch()
    (tmp_path / "folder.gguf").mkdir()
    (tmp_path / "notes.txt").write_text("Ada")
    newer = bytearray(file.read_bytes())
    newer[4] = 9
    (tmp_path / "newer.gguf").write_bytes(newer)
    for name, words in (
        ("none.gguf", "expected a GGUF file, found no such file"),
        ("text.GGUF", "expected a GGUF file, found one that does not begin as such"),
        ("empty.gguf", "expected a GGUF file, found one that does not begin as such"),
        ("folder.gguf", "expected a folder with config.json, found none there"),
        ("notes.txt", "expected a folder with config.json, found a file; name the folder"),
        ("newer.gguf", "version 9"),
    ):
        refused(capsys, ["probe", str(tmp_path / name)], str(tmp_path / name), words)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(lmsl.InputError, match=r"needs the package gguf; .*'\.\[gguf\]'"):
        find_source(str(file), None, "config.json")
    assert not from_hub("org/model.gguf") and from_hub("org/model")
