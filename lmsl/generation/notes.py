"""What is said of questions and lessons beside what is said of all examples."""

from dataclasses import dataclass

from lmsl.packs.examples import ExampleNotes
from lmsl.wording import counted


@dataclass(frozen=True, kw_only=True)
class AnswerNotes(ExampleNotes):
    """Also which spans an answer can say."""

    spans: int
    """Of the words that are read."""
    unsayable: int
    """Those that are found elsewhere, or nowhere, when their own answer is read back."""
    cramped: int
    """Sentences whose right answer is longer than an answer may be."""

    def lines(self) -> list[str]:
        told = super().lines()
        if self.unsayable:
            told.append(
                f"{counted(self.unsayable, 'span')} of {self.spans} cannot be told by an answer: "
                "the words stand earlier, too, or hold marks of the grammar"
            )
        if self.cramped:
            told.append(
                f"{counted(self.cramped, 'sentence')} whose right answer is longer than "
                "answers may become, so it cannot be right"
            )
        return told
