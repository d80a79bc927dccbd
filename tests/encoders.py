"""Tiny random encoders of every family the tests train, as folders with a tokenizer of their own.

The tokenizer puts [CLS] before a text and [SEP] behind it, as those of real encoders do, and
leaves out no id that a family counts positions from.
"""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,:;!?'-"
VOCABULARY = len(SPECIAL) + 2 * len(LETTERS)

_DISENTANGLED = {
    "relative_attention": True,
    "position_biased_input": False,
    "pos_att_type": ["p2c", "c2p"],
    "type_vocab_size": 0,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "position_buckets": 8,
}
ENCODERS: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {},
    "xlm-roberta": {},
    "electra": {"embedding_size": 32},
    "distilbert": {"dim": 32, "n_layers": 4, "n_heads": 4, "hidden_dim": 40},
    "modernbert": {"local_attention": 6, "global_attn_every_n_layers": 2},
    "eurobert": {"num_key_value_heads": 2, "mask_token_id": 4},
    "deberta-v2": _DISENTANGLED,
    "mpnet": {},
}
PADDED = ("deberta-v2", "mpnet")


def build_encoder(family: str, **changes: Any) -> Any:
    """A headless encoder of 4 layers in float32, in evaluation mode; the same at every call."""
    settings = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "max_position_embeddings": 258,
        # Far from uniform attention, so that a wrong mask or position shows.
        "initializer_range": 0.25,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "cls_token_id": 2,
        "sep_token_id": 3,
    }
    config = AutoConfig.for_model(family, **(settings | ENCODERS[family] | changes))
    torch.manual_seed(0)
    model: Any = AutoModel.from_config(config)
    return model.eval()


def encoder_folder(family: str, folder: Path) -> Path:
    """The encoder and its tokenizer as transformers saves them."""
    build_encoder(family).save_pretrained(folder)
    encoder_tokenizer().save_pretrained(folder)
    return folder


def encoder_tokenizer() -> Any:
    """Lower-cased pieces of one letter, [CLS] before and [SEP] behind."""
    pieces = [*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    known = {piece: number for number, piece in enumerate(pieces)}
    own = Tokenizer(models.WordPiece(known, unk_token="[UNK]"))  # type: ignore[arg-type]
    own.normalizer = normalizers.Lowercase()
    own.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    own.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]"}
    return PreTrainedTokenizerFast(
        tokenizer_object=own, cls_token="[CLS]", sep_token="[SEP]", **names
    )
