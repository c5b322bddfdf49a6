"""The kinds of findings about the data: what each is called, and what it means."""

# The gravest first. Findings of other kinds are the checks' and the watch's.
KINDS: dict[str, tuple[str, str]] = {
    "leak": ("Copies across parts", "A picture in training and test alike would be tested on what it taught."),
    "label-conflict": ("Copies under different classes", "The same picture with two labels: at least one is wrong."),
    "unreadable": ("Unreadable files", "Files that could not be decoded."),
    "empty-class": ("Empty classes", "Classes without an image that can be read."),
    "missing-class": (
        "Classes missing from a part",
        "What is not in a part cannot be learned, chosen by or tested there.",
    ),
    "small-class": ("Very small classes", "Too few images to learn from, choose by and test."),
    "small-part": ("Few images to judge by", "Figures of a small part say little; more labelled photos tell more."),
    "imbalance": ("Unbalanced classes", "Some classes have many more images than others."),
    "duplicate": ("Duplicates", "The same picture more than once."),
    "near-duplicate": ("Near duplicates", "Almost the same picture more than once."),
    "converted": ("Converted images", "Read in another form than stored."),
    "ignored": ("Ignored files", "What lies in the source and is not used."),
}


def title(kind: str) -> str:
    """Return the heading of a kind of finding.

    >>> title("leak")
    'Copies across parts'
    """
    return KINDS[kind][0] if kind in KINDS else kind
