"""Codes of visits that say when they are: bl, m06, M012, month 12, or days such as 20100131, with or without `ses-`."""

import re
from datetime import date

from framework.data.cohort.dates import DAYS_PER_YEAR

BASELINE = re.compile(r"bl|baseline", re.IGNORECASE)
MONTHS = re.compile(r"(?:m|mo|month)[ _-]?(\d{1,3})", re.IGNORECASE | re.ASCII)
DAY = re.compile(r"((?:19|20)\d\d)-?([01]\d)-?([0-3]\d)", re.ASCII)


def months_of(visit: str) -> int | None:
    """The months since baseline that a visit's code names, if it is one of such codes."""
    label = visit.removeprefix("ses-")
    if BASELINE.fullmatch(label):
        return 0
    found = MONTHS.fullmatch(label)
    return int(found[1]) if found else None


def coded_years(visit: str) -> tuple[str, float] | None:
    """The kind of code that a visit has, and its years since baseline ("months") or year 0 ("day")."""
    months = months_of(visit)
    if months is not None:
        return "months", months / 12
    found = DAY.fullmatch(visit.removeprefix("ses-"))
    if found is None:
        return None
    try:
        return "day", date(*map(int, found.groups())).toordinal() / DAYS_PER_YEAR
    except ValueError:
        return None
