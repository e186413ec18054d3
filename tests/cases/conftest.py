"""What cases share with the tests of ways in."""

from tests.data.ingest.conftest import bids_folder, save

__all__ = ["bids_folder", "save"]
