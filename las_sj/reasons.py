"""Errors of other libraries, in words for people."""

import re

# "KeyError: 'x'", "<class 'TypeError'>", "torch.cuda.OutOfMemoryError("
_CLASS_NAMES = re.compile(r"(<class ')?\b[\w.]*(?<=[a-z])(Error|Exception|Warning)\b('>)?[:(]?\s*")


# What Python says of a value that it cannot work with, which tells people nothing.
_OF_PYTHON = re.compile(
    r"object has no attribute|not supported between|object is not |must be .*, not |unexpected keyword"
    r"|unsupported operand|not subscriptable|positional argument"
)


def reason_of(error: BaseException) -> str:
    """The first sentence of an error, without names of Python classes; "no reason given" where it has none.

    An error of a key says the key alone, which is no reason; it is called what it is, a missing entry.
    """
    text = " ".join(str(error).split())
    if isinstance(error, KeyError):
        return f"no entry {text}"
    if isinstance(error, MemoryError) or re.search("allocate memory|out of memory", text):
        return "there is not enough memory"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, TypeError | AttributeError) and _OF_PYTHON.search(text):
        return "an entry is of a wrong kind"
    return without_class_names(text).split(". ")[0].rstrip(".") or "no reason given"


def without_class_names(text: str) -> str:
    """A text in which no class of an error is named."""
    return _CLASS_NAMES.sub("", text.replace(" (OfflineModeIsEnabled)", ""))
