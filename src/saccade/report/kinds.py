"""The kinds of findings about the data: what each is called, and what it means."""

# The gravest first. Findings of other kinds are the checks' and the watch's.
KINDS: dict[str, tuple[str, str]] = {
    "leak": ("Copies across parts", "A picture in training and test alike would be tested on what it taught."),
    "seen": ("Images the network knows", "What its weights have seen is no test of what is trained from them."),
    "unsplit": ("No way to split", "Without images to train on, to choose by and to test, nothing can be trained."),
    "label-conflict": (
        "Copies and look-alikes under two labels",
        "Of exact copies under two labels, one is wrong; look-alikes are to be looked at.",
    ),
    "unreadable": ("Unreadable files", "Files that could not be decoded."),
    "empty-class": ("Empty classes", "Classes without an image that can be read."),
    "missing-class": (
        "Classes missing from a part",
        "What is not in a part cannot be learned, chosen by or tested there.",
    ),
    "class-name": ("Classes spelt in two ways", "One class should have one name; of two that differ, rename one."),
    "several-labels": ("Several labels in one", "Each combination is a class of its own: give an image one label."),
    "nested": ("Folders within class folders", "They are no classes: where they should be, lift them to the top."),
    "small-class": ("Very small classes", "Too few images to learn from, choose by and test."),
    "small-part": ("Few images to judge by", "Figures of a small part say little; more labelled photos tell more."),
    "imbalance": ("Unbalanced classes", "Some classes have many more images than others."),
    "duplicate": ("Duplicates", "The same picture more than once."),
    "near-duplicate": ("Near duplicates", "Almost the same picture more than once."),
    "group": ("Groups by name", "Images of one group, such as one patient's, lie on one side of the split."),
    "label": ("Labels likely to be wrong", "Images like those of another class, to a model that never saw them."),
    "shift": ("Training and validation differ", "What is chosen on validation images that are others may not be best."),
    "blank": ("Blank images", "Nothing is to be seen in them."),
    "faint": ("Faint images", "Hardly anything is to be seen in them as they are read."),
    "dark": ("Dark images", "Much darker than the others."),
    "bright": ("Bright images", "Much brighter than the others."),
    "blurred": ("Blurred images", "Much less sharp than the others."),
    "extreme-size": ("Unusual sizes and shapes", "Far smaller, larger, longer or thinner than the others."),
    "wrong-extension": ("Wrong extensions", "Read by their content, whatever they are called."),
    "grey": ("Grey among coloured", "Where they are of some classes alone, greyness is learned instead."),
    "transparent": ("Transparent images", "Their transparent parts were laid on white."),
    "animated": ("Animations", "Of several frames only the first is used."),
    "converted": ("Converted images", "Read in another form than stored."),
    "ignored": ("Ignored files", "What lies in the source and is not used."),
}


def title(kind: str) -> str:
    """Return the heading of a kind of finding.

    >>> title("leak")
    'Copies across parts'
    """
    return KINDS[kind][0] if kind in KINDS else kind
