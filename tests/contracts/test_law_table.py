"""The page of laws says what is run."""

from tests.contracts.law_table import PAGE, page


def test_the_page_says_who_is_held_to_which_law():
    assert PAGE.read_text() == page(), "write it anew: python -m tests.contracts.law_table > tests/contracts/LAWS.md"
