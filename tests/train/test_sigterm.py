"""SIGTERM is heard inside, and outside everything is as it was."""

import signal
from threading import Thread

import pytest

from framework.train.sigterm import Termination


@pytest.fixture
def before():
    """A handler of someone else's, so that an unheard signal does not end the tests."""
    heard = []
    old = signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
    yield heard
    signal.signal(signal.SIGTERM, old)


def test_it_notes_the_first_and_leaves_the_second_to_who_was_there(before):
    mine = signal.getsignal(signal.SIGTERM)
    with Termination() as termination:
        assert not termination.requested
        signal.raise_signal(signal.SIGTERM)
        assert termination.requested
        assert before == []
        signal.raise_signal(signal.SIGTERM)
        assert before == [1]
    assert signal.getsignal(signal.SIGTERM) is mine


def test_afterwards_nothing_is_left_of_it(before):
    mine = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyError), Termination():
        raise KeyError
    assert signal.getsignal(signal.SIGTERM) is mine


def test_in_another_thread_it_hears_nothing(before):
    found = []

    def listen():
        with Termination() as termination:
            found.append((termination.requested, signal.getsignal(signal.SIGTERM)))

    mine = signal.getsignal(signal.SIGTERM)
    thread = Thread(target=listen)
    thread.start()
    thread.join()
    assert found == [(False, mine)]
