"""Names that a variable, a modality, an event or a model may have: they become names of files, columns and arrays."""

import re
from urllib.parse import quote

from framework.errors import UserError

LONGEST = 80  # letters
BYTES = 200  # percent-encoded, as files are called: the name of a file has at most 255, with its ending
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
FORBIDDEN = re.compile(rf"{CONTROL.pattern}|\A[=+\-@\s]|\s\Z")


def require_name(name: object, what: str) -> str:
    """The name, if it may be one. Raises UserError where it is empty, overlong, a folder's, or begins as a formula."""
    if not isinstance(name, str) or not name:
        raise _refused(name, what, "is no text")
    if len(name) > LONGEST or len(quote(name, errors="replace")) > BYTES:
        raise _refused(f"{name[:20]}…", what, f"has {len(name)} letters, too many for a file")
    if name in (".", "..") or FORBIDDEN.search(name):
        raise _refused(name, what, "is a folder's, or begins or ends with a sign that a file or a spreadsheet misreads")
    return name


def require_file_name(name: object, what: str) -> str:
    """The name, if it may also be that of a file or an array as it is: it holds no slash."""
    if re.search(r"[/\\:]", require_name(name, what)):
        raise _refused(name, what, "has a slash or a colon")
    return str(name)


def _refused(name: object, what: str, why: str) -> UserError:
    return UserError(
        f"{what} is called {name!r}, which {why}; expected 1 to {LONGEST} letters, none of them a control character, "
        "that do not begin with =, +, -, @ or a space: give it another name"
    )
