"""What a model is asked: the text around a sentence, with the markup of a chat or without.

``default`` names the types as an answer does, shows the grammar of ``lmsl.generation.grammar`` and
ends where the answer begins. ``acl2024`` has the headings and, for its one instruction, the words
that the 2024 paper used for named entities. Where the tokenizer has a chat template the question
is what a user says and the answer what the assistant does; ``acl2024`` never uses one.

Texts go into the run as they are, so that neither a changed template nor one that writes today's
date into its prompt makes a run answer another question than it was trained on.
"""

from collections.abc import Sequence
from typing import Any

from lmsl.config.choices import ChatTemplate, Generation
from lmsl.config.config import Config
from lmsl.data.tags.vocabulary import LabelSet
from lmsl.generation.grammar import EQUALS, NEXT, escaped
from lmsl.generation.names import in_words

_PLACEHOLDER = "lmsl asks here"


def choose_prompt(config: Config, labels: LabelSet, tokenizer: Any) -> tuple[Generation, str]:
    """How a run asks and is decoded, and the words for its chat template.

    Raises:
        InputError: two types would be written alike.
    """
    names = in_words(labels.types)
    opening, closing, said = "", "", "prompt: no chat template (--prompt acl2024)"
    if config.prompt != "acl2024":
        opening, closing, said = _chat(config.chat_template, tokenizer)
    before, after = _acl2024(names) if config.prompt == "acl2024" else _default(names)
    return Generation(
        prompt=config.prompt,
        opening=opening,
        before=before,
        # In a chat the turn of the assistant says as much.
        after="" if closing else after,
        closing=closing,
        names=names,
        decoding=config.decoding,
        temperature=config.temperature,
        top_p=config.top_p,
    ), said


def _default(names: Sequence[str]) -> tuple[str, str]:
    listed = f" {NEXT} ".join(map(escaped, names))
    return (
        f"List the spans of these types in the sentence, in order: span {EQUALS} type {NEXT} "
        f"span {EQUALS} type\nTypes: {listed}\nSentence:",
        "\nAnswer:",
    )


def _acl2024(names: Sequence[str]) -> tuple[str, str]:
    return (
        "### Instruction: \nplease extract named entities and their type from the input sentence, "
        f"all entity types are in options \n\n### Options:\n{', '.join(names)}\n\n"
        "### Sentence:\n",
        "\n\n### Response:\n",
    )


def _chat(choice: ChatTemplate, tokenizer: Any) -> tuple[str, str, str]:
    """What a chat has before and behind what a user says, and the words for it."""
    if choice == "no":
        return "", "", "prompt: no chat template (--chat-template no)"
    if not getattr(tokenizer, "chat_template", None):
        return "", "", "prompt: no chat template (--chat-template auto: the tokenizer has none)"
    said = [{"role": "user", "content": _PLACEHOLDER}]
    try:
        text = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
    except Exception as error:
        # A template is a program of its author and may raise anything.
        reason = f"it fails with {type(error).__name__}"
    else:
        opening, found, closing = text.partition(_PLACEHOLDER)
        if found and closing and _PLACEHOLDER not in closing:
            return opening, closing, "prompt: the tokenizer's chat template (--chat-template auto)"
        reason = "it has no place for a question and an answer"
    return "", "", f"prompt: no chat template (--chat-template auto: {reason})"
