"""The ways in: each is a `Reader`, and `ingest` turns what it finds into a cohort with its ledger."""

from framework.data.ingest.base import ingest

__all__ = ["ingest"]
