"""The right-side dependency ratio: counted by hand, and trees from files and parsers."""

import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from lmsl.cli import main
from lmsl.data.dependency import Edges, RightDependency, _faults, right_dependency
from lmsl.data.formats.options import ReadOptions
from lmsl.data.read import read_with
from lmsl.data.tags.sentence import Dataset
from lmsl.data.trees import file_trees, spacy_heads, stanza_heads, trees_of
from lmsl.errors import InputError
from tests.small_runs import refused

# The example in the paper's own code, parsed by hand: it has 2 edges left, 2 right.
#   Barack (PER): head Obama >                        1 right
#   Obama  (PER): head born >, child Barack <         1 right, 1 left
#   Hawaii (LOC): head born <, child in <             2 left
HAWAII = (
    "1 Barack 2 B-PER",
    "2 Obama 4 I-PER",
    "3 was 4 O",
    "4 born 0 O",
    "5 in 6 O",
    "6 Hawaii 4 B-LOC",
    "7 . 4 O",
)
# Two roots, a word of two parts whose own row has no head, an empty node, a gap of one word.
#   Anna (PER): root, child sings >                   1 right
#   zum  : of two words, its row is skipped
#   zu   (O)
#   dem  (LOC): head Hof >                            1 right
#   Hof  (LOC): root of its own, children zu <, dem < 2 left
#   ist  : empty, skipped
#   !    (MISC): head sings <                         1 left
ODD = (
    "1 Anna 0 B-PER",
    "2 sings 1 O",
    "3-4 zum _ O",
    "3 zu 5 O",
    "4 dem 5 B-LOC",
    "5 Hof 0 I-LOC",
    "5.1 ist _ O",
    "6 ! 2 B-MISC",
)


def conllu(*sentences: tuple[str, ...]) -> str:
    """``ID FORM HEAD TAG`` as CoNLL-U with the tag among the features of the last column."""
    blocks = []
    for number, rows in enumerate(sentences):
        block = [f"# sent_id = {number}"]
        for row in rows:
            word, form, head, tag = row.split()
            block.append(
                "\t".join([word, form, *"____", head, "dep", "_", f"SpaceAfter=No|name={tag}"])
            )
        blocks.append("\n".join(block) + "\n\n")
    return "".join(blocks)


def written(folder: Path, *sentences: tuple[str, ...], name: str = "test.conllu") -> Path:
    (folder / name).write_text(conllu(*sentences), encoding="utf-8")
    return folder / name


def counted(file: Path, **options: Any) -> RightDependency:
    reading = ReadOptions(**options)
    dataset = read_with(file, reading)
    return right_dependency(dataset, trees_of(None, reading)(dataset))


def test_it_is_what_was_counted_by_hand(tmp_path: Path) -> None:
    found = counted(written(tmp_path, HAWAII, ODD))
    assert found.overall == Edges(right=2 + 2, all=5 + 5) and not found.whole
    assert found.per_type == {
        "PER": Edges(right=2 + 1, all=3 + 1),
        "LOC": Edges(right=0 + 1, all=2 + 3),
        "MISC": Edges(right=0, all=1),
    }
    assert found.lines() == [
        "right-side dependency: 0.4000 (4 of 10 edges)",
        "right-side dependency by type: LOC 0.2000 (1 of 5 edges), PER 0.7500 (3 of 4 edges), "
        "MISC 0.0000 (0 of 1 edge)",
        "note: 1 of 2 sentences is no tree (1 with more than one root); their edges count as "
        "stated",
    ]


def test_where_every_word_is_tagged_each_edge_is_seen_from_both_ends(tmp_path: Path) -> None:
    rows = tuple(row.rpartition(" ")[0] + " X" + row[0] for row in HAWAII)
    found = counted(written(tmp_path, rows), tag_column=10, scheme="plain")
    assert found.whole and found.overall == Edges(right=6, all=12)
    assert "0.5000 (6 of 12 edges); every word is tagged" in found.lines()[0]
    bio = counted(written(tmp_path, tuple(row[: row.rindex(" ")] + " B-X" for row in HAWAII)))
    assert bio.whole and bio.per_type == {"X": Edges(right=6, all=12)}


def test_a_file_of_o_alone_and_a_tagged_root_without_children_have_no_value(
    tmp_path: Path,
) -> None:
    none = counted(written(tmp_path, ("1 It 2 O", "2 rains 0 O")))
    assert none.lines() == ["right-side dependency: none, no word has a tag other than O"]
    assert not none.whole
    alone = counted(written(tmp_path, ("1 Ada 0 B-PER",)))
    assert alone.lines() == [
        "right-side dependency: none (0 of 0 edges); no tagged word has a head or a child",
        "right-side dependency by type: PER none (0 of 0 edges)",
    ]


def test_sentences_that_are_no_trees_are_counted_and_said(tmp_path: Path) -> None:
    """Their edges count as stated: refusing a treebank for a slip in one sentence helps nobody."""
    cycle = ("1 Ada 2 B-PER", "2 met 1 O", "3 Bob 0 O")
    roots = ("1 Ada 0 B-PER", "2 met 1 O", "3 Bob 0 O")
    both = ("1 Ada 0 O", "2 met 0 O", "3 Bob 4 O", "4 . 5 O", "5 . 3 O")
    none = ("1 Ada 0 B-PER", "2 met 0 O")
    alone = ("1 Ada 0 B-PER",)
    found = counted(written(tmp_path, HAWAII, cycle, roots, both, none, alone))
    assert found.overall == Edges(right=2 + 2 + 1, all=5 + 2 + 1)
    assert found.lines()[2:] == [
        "note: 4 of 6 sentences are no trees (2 with a cycle, 2 with more than one root, 1 "
        "without any edge); their edges count as stated"
    ]
    only = counted(written(tmp_path, none))
    assert only.lines()[0].endswith("none (0 of 0 edges); no tagged word has a head or a child")
    assert "is no tree (1 without any edge); " in only.lines()[2]


def test_every_form_of_three_words_is_told_from_a_tree() -> None:
    """Against the definition: each word reaches 0 by heads, and one of them at once."""
    for heads in product(range(4), repeat=3):
        ends = []
        for word in (1, 2, 3):
            for _ in range(4):
                word = word and heads[word - 1]
            ends.append(word)
        tree = not any(ends) and heads.count(0) == 1
        assert (_faults(heads) == []) == tree, heads
        assert ("with a cycle" in _faults(heads)) == any(ends), heads
    assert _faults([0, *range(1, 100_000)]) == [] and _faults([]) == []


@pytest.mark.parametrize("misc", ["_", "SpaceAfter=No"])
def test_a_file_without_tags_has_no_value(
    misc: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trees alone, as most treebanks are: `_` on every word would be a label like any other."""
    file = tmp_path / "trees.conllu"
    text = conllu(HAWAII)
    for tag in {row.split()[-1] for row in HAWAII}:
        text = text.replace(f"SpaceAfter=No|name={tag}\n", f"{misc}\n")
    file.write_text(text, encoding="utf-8")
    for words in ("describe", "check"):
        line = ["data", words, str(file), "--right-dependency"]
        refused(capsys, line, f"{file}: expected tags", "--tag-column")
    refused(capsys, ["train", "--train", str(file)], "expected tags", "--tag-column")


def test_words_without_a_label_are_no_tagged_words(tmp_path: Path) -> None:
    rows = tuple(row.replace("I-PER", "unsure") for row in HAWAII)
    file = tmp_path / "a.conllu"
    file.write_text(conllu(rows).replace("SpaceAfter=No|name=", ""), encoding="utf-8")
    found = counted(file, ignore_tag="unsure")
    assert found.per_type["PER"] == Edges(right=1, all=1)


@pytest.mark.parametrize(
    ("cell", "said"),
    [("8", "'8'"), ("-1", "'-1'"), ("_", "'_'"), ("3", "'3'"), ("²", "'²'"), ("0" * 5000, "'000")],
    ids=["beyond", "negative", "none", "itself", "superscript", "long"],
)
def test_a_head_that_is_no_other_word_is_named_by_its_line(
    cell: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = (*HAWAII[:2], f"3 was {cell} O", *HAWAII[3:])
    file = written(tmp_path, ODD, rows)
    # A comment, eight rows and an empty line; then a comment and two rows.
    place = f"{file}:14: HEAD: expected 0 or the number of another of 7 words, got {said}"
    line = ["data", "describe", "--right-dependency", str(file)]
    refused(capsys, line, place)
    assert main([*line[:2], str(file)]) == 0, "who does not ask for it does not need it"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.conll", "Ada\tB-PER\nmet\tO\n", "2 columns, of which the first does not number"),
        ("a.conll", "1\tAda\tB-PER\n2\tmet\tO\n", "3 columns, of which the first numbers"),
        ("a.jsonl", '{"tokens": ["Ada"], "tags": ["B-PER"]}\n', "the format json"),
    ],
)
def test_other_files_are_refused(
    name: str, text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(text)
    line = ["data", "check", str(tmp_path / name), "--right-dependency"]
    refused(capsys, line, f"{tmp_path / name}: expected CoNLL-U", said, "--parser spacy:MODEL")


@pytest.mark.parametrize("named", ["", "seq.in"])
def test_a_pair_of_words_and_tags_is_refused_like_other_files(
    named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "seq.in").write_text("Ada met\n")
    (tmp_path / "seq.out").write_text("B-PER O\n")
    line = ["data", "describe", str(tmp_path / named), "--right-dependency"]
    refused(capsys, line, "expected CoNLL-U", "got the format seq", "--parser spacy:MODEL")


def test_a_file_that_changes_between_two_readings_is_no_parsers_fault(tmp_path: Path) -> None:
    dataset = read_with(written(tmp_path, HAWAII, ODD), ReadOptions())
    written(tmp_path, HAWAII)
    with pytest.raises(InputError, match="of 6 words, got one of 0; the file changed while"):
        list(trees_of(None, ReadOptions())(dataset))


def test_flags_that_do_not_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(written(tmp_path, HAWAII))
    for flags, words in (
        (["describe", file, "--parser", "spacy:x"], "--parser spacy:x: expected --right-depend"),
        (["convert", file, "--right-dependency", "--output", "x"], "got convert"),
        (["describe", file, "--right-dependency", "--parser", "x"], "expected spacy:MODEL or"),
        (["describe", file, "--right-dependency", "--parser", "spacy:"], "got 'spacy:'"),
    ):
        refused(capsys, ["data", *flags], words)
    one = Dataset(sentences=read_with(file, ReadOptions()).sentences, plain=False, source="-")
    with pytest.raises(InputError, match="got standard input; save it"):
        list(trees_of(None, ReadOptions())(one))


def test_a_folder_of_splits_and_a_split_of_many_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    splits, many = tmp_path / "splits", tmp_path / "many"
    for folder, names in ((splits, ("train", "test")), (many, ("a", "b"))):
        folder.mkdir()
        for name, rows in zip(names, (HAWAII, ODD), strict=True):
            written(folder, rows, name=f"{name}.conllu")
    assert main(["data", "describe", str(splits), "--right-dependency"]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if "dependency:" in line]
    assert sorted(said) == ["  right-side dependency: 0.4000 (2 of 5 edges)"] * 2
    assert counted(many).overall == Edges(right=4, all=10)


class TestSpacy:
    @pytest.fixture
    def spacy(self) -> Iterator[Any]:
        library = pytest.importorskip("spacy", reason="the extra parsers is not installed")

        # What a parser does, by a rule: every word hangs on the next, the last is the root.
        @library.language.Language.component("next_word")
        def next_word(doc: Any) -> Any:
            for word in doc:
                word.head, word.dep_ = doc[min(word.i + 1, len(doc) - 1)], "dep"
            return doc

        @library.language.Language.component("joins_words")
        def joins_words(doc: Any) -> Any:
            with doc.retokenize() as retokenizer:
                retokenizer.merge(doc[:2])
            return doc

        yield library

    def test_trees_come_from_the_pipeline_and_words_from_the_file(self, spacy: Any) -> None:
        pipeline = spacy.blank("en")
        pipeline.add_pipe("next_word")
        words = [["Don't", "stop", "U.K.-based"], [" ", "🙂"], ["x"]]
        assert list(spacy_heads(pipeline, words)) == [[2, 3, 0], [2, 0], [0]]

    def test_by_the_command(
        self,
        spacy: Any,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        pipeline = spacy.blank("en")
        pipeline.add_pipe("next_word")
        monkeypatch.setattr(spacy.util, "is_package", lambda name: True)
        monkeypatch.setattr(spacy, "load", lambda name: pipeline)
        (tmp_path / "a.conll").write_text("Ada\tB-PER\nKing\tI-PER\nsat\tO\nhere\tB-LOC\n")
        line = ["data", "describe", str(tmp_path / "a.conll"), "--right-dependency"]
        assert main([*line, "--parser", "spacy:en_core_web_sm"]) == 0
        # Ada > King; King > sat, < Ada; here, the root, < sat.
        assert "right-side dependency: 0.5000 (2 of 4 edges)" in capsys.readouterr().out
        pipeline.add_pipe("joins_words")
        refused(capsys, [*line, "--parser", "spacy:x"], "a tree of 4 words, got one of 3")

    def test_what_is_missing_is_said_in_a_line(
        self, spacy: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        with pytest.raises(
            InputError, match="expected a spaCy model with a parser, got one of no"
        ):
            list(spacy_heads(spacy.blank("en"), [["a"]]))
        for model in ("xx_no_such_model", str(tmp_path)):
            with pytest.raises(InputError, match="expected an installed model; python -m spacy"):
                trees_of(f"spacy:{model}", ReadOptions())
        monkeypatch.setitem(sys.modules, "spacy", None)
        with pytest.raises(InputError, match=r"expected spacy, which .* '\.\[parsers\]'"):
            trees_of("spacy:en_core_web_sm", ReadOptions())


class Stanza(ModuleType):
    """What is used of Stanza: a pipeline that takes lists of words, and says how it was made."""

    asked: dict[str, Any]

    def Pipeline(self, language: str, **settings: Any) -> Any:
        if language != "en":
            raise FileNotFoundError("no such\nmodel")
        self.asked = settings

        def parse(sentences: list[list[str]]) -> Any:
            assert len(sentences) <= 256
            return SimpleNamespace(
                sentences=[
                    SimpleNamespace(
                        words=[SimpleNamespace(head=place) for place in range(len(words))]
                    )
                    for words in sentences
                ]
            )

        return parse


class TestStanza:
    def test_trees_come_from_the_pipeline(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        library = Stanza("stanza")
        monkeypatch.setitem(sys.modules, "stanza", library)
        dataset = read_with(written(tmp_path, *[HAWAII] * 300, ODD), ReadOptions())
        heads = list(trees_of("stanza:en", ReadOptions())(dataset))
        assert len(heads) == 301 and heads[0] == list(range(7)) and heads[-1] == list(range(6))
        assert library.asked["tokenize_pretokenized"] is True, "the words stay the file's"
        assert library.asked["download_method"] is None
        with pytest.raises(InputError, match=r"stanza\.download\('de'\).*\(no such model\)"):
            trees_of("stanza:de", ReadOptions())

    def test_it_may_not_be_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "stanza", None)
        with pytest.raises(InputError, match=r"expected stanza, which is not .*'\.\[parsers\]'"):
            trees_of("stanza:en", ReadOptions())

    def test_no_sentences_are_no_work(self) -> None:
        assert list(stanza_heads(None, [])) == []


def test_trees_are_in_the_order_of_the_sentences(tmp_path: Path) -> None:
    file = written(tmp_path, HAWAII, ODD)
    first, second = file_trees(str(file), ReadOptions())
    assert first == [2, 4, 4, 0, 6, 4, 4] and second == [0, 1, 5, 5, 0, 2]
