"""Errors of other libraries, in words for people."""

import re

# "KeyError: 'x'", "<class 'TypeError'>", "torch.cuda.OutOfMemoryError("
_CLASS_NAMES = re.compile(r"(<class ')?\b[\w.]*(?<=[a-z])(Error|Exception|Warning)\b('>)?[:(]?\s*")


def reason_of(error: BaseException) -> str:
    """The first sentence of an error, without names of Python classes; "no reason given" where it has none.

    An error of a key says the key alone, which is no reason; it is called what it is, a missing entry.
    """
    text = " ".join(str(error).split())
    if isinstance(error, KeyError):
        return f"no entry {text}"
    if isinstance(error, MemoryError) or re.search("allocate memory|out of memory", text):
        return "there is not enough memory"
    return without_class_names(text).split(". ")[0].rstrip(".") or "no reason given"


def without_class_names(text: str) -> str:
    """A text in which no class of an error is named."""
    return _CLASS_NAMES.sub("", text.replace(" (OfflineModeIsEnabled)", ""))
