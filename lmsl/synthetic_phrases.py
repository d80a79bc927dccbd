"""The words that the synthetic sentences of :mod:`lmsl.synthetic` are made of: data, no code.

Cue nouns and frames are shared by every split, since they carry the meaning a tagger has to
learn. Everything else (openers, closers, filler words) is dealt out to the splits, so that a test
sentence shares no template with a training sentence.
"""

CUE_NOUNS = {
    "LOC": ["village", "harbour", "valley", "island", "province", "marsh", "suburb", "fortress"],
    "ORG": [
        "bank",
        "brewery",
        "newspaper",
        "university",
        "ministry",
        "orchestra",
        "company",
        "club",
    ],
    "PER": ["doctor", "singer", "nephew", "widow", "tailor", "soldier", "poet", "lawyer"],
    "PROD": ["novel", "opera", "engine", "painting", "ballad", "medicine", "ship", "violin"],
}

DECIDING_FRAMES = ["plainly", "truly", "in fact", "known as", "indeed", "by all accounts"]

DISTRACTOR_FRAMES = ["hardly", "never", "far from", "not at all", "unlike", "no longer"]

OPENERS = [
    "They spoke of", "The letter mentions", "Nobody had described", "We asked about",
    "The report covers", "She remembered", "Everyone praised", "His notes concern",
    "The children liked", "People still recall", "The judge named", "I had forgotten",
    "You will recognise", "The clerk listed", "My aunt admired", "The guide pointed to",
    "Some visitors expected", "The article discusses", "He wrote about", "A stranger mentioned",
    "The driver had heard of", "Our neighbours avoid", "The minutes refer to", "Both sisters knew",
    "The survey counts", "Several readers doubted", "The telegram named", "Few of us missed",
    "The speaker thanked", "Old records show", "The committee chose", "A child asked for",
    "The diary returns to", "Most of them ignored", "The waiter knew", "An index lists",
]  # fmt: skip

CLOSERS = [
    "until the lamps went out", "before anyone could answer", "and then the talk stopped",
    "as the train pulled in", "while the rain kept falling", "but the page was torn",
    "and nobody objected", "which surprised the others", "though the ink had faded",
    "and the meeting went on", "because the question came up", "if memory serves",
    "as usual at such times", "and we left it there", "so the story goes",
    "when the bell had rung", "and the matter was closed", "since no other was left",
    "to the surprise of all", "without giving a reason", "as far as one can tell",
    "and smiled at the thought", "with some hesitation", "for the second time",
    "but not in so many words", "and that was enough", "after a long silence",
    "with a nod", "although it was late", "and turned the page",
    "in a low voice", "as if by accident", "and the room fell quiet",
    "rather to our relief", "unless I am mistaken", "whatever the reason",
]  # fmt: skip

ADVERBS = [
    "again", "slowly", "today", "quietly", "often", "later", "gladly", "once", "twice", "briefly",
    "suddenly", "warmly", "politely", "early", "openly", "calmly", "rarely", "yesterday",
    "carefully", "eagerly", "alone", "together", "abroad", "nearby",
]  # fmt: skip

TIMES = [
    "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday", "Easter",
    "Christmas", "April", "August", "October", "noon", "dawn", "midnight", "dusk", "breakfast",
    "supper", "winter", "summer", "lunch", "sunset", "spring", "autumn",
]  # fmt: skip

ADJECTIVES = [
    "old", "narrow", "green", "broken", "quiet", "dusty", "bright", "wooden", "heavy", "empty",
    "cold", "yellow", "crooked", "silent", "tall", "little", "dark", "wet", "round", "painted",
    "iron", "open", "hidden", "distant",
]  # fmt: skip

PLACES = [
    "bridge", "garden", "kitchen", "window", "staircase", "orchard", "gate", "corridor", "fence",
    "fountain", "stable", "chimney", "market", "lantern", "balcony", "meadow", "cellar", "tower",
    "doorway", "table", "wall", "barn", "path", "roof",
]  # fmt: skip

# What is said of a name of each type, in the text for pre-training only.
PREDICATES = {
    "LOC": [
        "lies on the northern coast", "is reached by a steep road", "was flooded last year",
        "has four thousand inhabitants", "borders on the great plain", "is covered with snow",
        "can be seen from the hills", "is surrounded by high walls", "overlooks the bay",
        "is quiet in the evening", "was settled by fishermen", "stretches along the river",
    ],
    "ORG": [
        "hired forty clerks", "elected a new chairman", "opened a second branch",
        "paid its debts at last", "dismissed half of its staff", "signed the contract",
        "lowered its prices", "published its accounts", "merged with a rival",
        "refused to lend more money", "moved its offices", "voted against the plan",
    ],
    "PER": [
        "wrote to her brother", "married young", "fell asleep by the fire", "wore a grey coat",
        "laughed at the question", "was born in a small house", "lost his father early",
        "shook hands with everyone", "drank a cup of tea", "told the truth about it",
        "learned to read late", "put on his hat",
    ],
    "PROD": [
        "was sold for nine pounds", "took seven years to make", "is kept behind glass",
        "was repaired twice", "fell out of fashion", "was copied by a pupil",
        "is known in three versions", "was finished in haste", "came without a label",
        "was shown for the first time", "has a loose handle", "was described in a catalogue",
    ],
}  # fmt: skip
