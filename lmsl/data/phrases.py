"""The words that the synthetic sentences of :mod:`lmsl.data.synthetic` are made of: data, no code.

Cue nouns and frames are shared by every split, since they carry the meaning a tagger has to
learn. Openers and closers are dealt out to the splits, so that a test sentence shares no template
with a training sentence; filler words are dealt out to pre-training and to the task. An opener of
dev or test begins with a word that an opener of train begins with: a capital makes no name.
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
    "The report covers", "We remembered", "Everyone praised", "His notes concern",
    "The children liked", "People still recall", "The judge named", "They had forgotten",
    "You will recognise", "The clerk listed", "My aunt admired", "The guide pointed to",
    "Many visitors expected", "The article discusses", "He wrote about", "A stranger mentioned",
    "The driver had heard of", "Our neighbours avoid", "The minutes refer to", "My sisters knew",
    "The survey counts", "Several readers doubted", "The telegram named", "Few of us missed",
    "The speaker thanked", "The records show", "The committee chose", "A child asked for",
    "The diary returns to", "Most of them ignored", "The waiter knew", "The index lists",
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

# For train, dev and test alone, so many that no single one weighs much in a split.
TASK_OPENERS = [
    "They never forgot", "The porter announced", "Nobody here trusts", "We had to mention",
    "The notice speaks of", "He had dreamt of", "All of us remember", "His letters return to",
    "The boys laughed about", "Visitors ask for", "The lawyer quoted", "You could not place",
    "You may have seen", "The sailor swore by", "My cousin collects stories of",
    "The map leaves out", "A few strangers argued over", "The ledger contains", "He sang of",
    "A witness recalled", "The cook had quarrelled with", "Their parents disliked",
    "This chapter concerns", "None of us believed", "The census omits",
    "Many listeners wrote about", "The placard praised", "None of them noticed",
    "The teacher explained", "All the rumours surround", "The council debated",
    "A postcard came from", "This page describes", "Hardly anyone visits", "The barber talked of",
    "A column gives", "Perhaps they meant", "The gardener pointed at", "What remains is",
    "We could hear about", "People whispered of", "My uncle sketched", "Every traveller knows",
    "The pamphlet attacked", "Last of all came", "The engineer measured",
    "The ones who left spoke of", "The chorus greeted", "On the list stood", "Young people prefer",
    "The captain avoided", "Each guest named", "You could easily like",
    "The bookseller recommended", "Yours must be", "The choir honoured", "Under discussion was",
    "Later reports confirm", "The baker envied", "Most of the town knew",
]  # fmt: skip

TASK_CLOSERS = [
    "and the door was shut", "until the music began", "while the others waited",
    "as the clock struck", "but no answer came", "and everybody laughed",
    "which nobody had foreseen", "though the light was poor", "and the work was resumed",
    "because someone had asked", "if the story is true", "as we had been told",
    "and so it remained", "to tell the truth", "when the snow had melted",
    "and the case was dismissed", "for want of a better word", "to everyone else's annoyance",
    "without a second thought", "as might be expected", "and looked out over the water",
    "with a great deal of noise", "for no good reason", "but only among friends",
    "and nothing more was said", "before the lecture ended", "with both hands raised",
    "even if it hurt", "and closed the book", "in spite of the heat",
    "as though in passing", "and the crowd went home", "much against his will",
    "unless memory fails", "however strange it seems", "at the end of the day",
    "and poured another glass", "long before the war", "so far as the records go",
    "while crossing the square", "just to be polite", "and that settled it",
    "without raising the voice", "under the usual conditions", "for the benefit of all",
    "to nobody in particular", "and the subject was dropped", "in the words of the report",
    "though the roads were bad", "or so people say", "instead of going home",
    "and waved from the platform", "as long as it lasted", "between two trains",
    "with the window open", "and the dog began to bark", "at great expense",
    "as if nothing had happened", "and put away the knives", "according to the minutes",
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
