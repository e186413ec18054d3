"""The loop of every training: steps in rounds, checkpoints, an orderly stop, until nothing is left to learn."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import grain
from jaxtyping import PyTree

from framework.train.checkpoint import Checkpoints
from framework.train.sigterm import Termination


class Learner(ABC):
    """A training of `total` steps at most, evaluated after every `round` of them and after the last.

    `reader`, where there is one, has a place in the data that is kept with the state.
    """

    total: int
    round: int
    reader: grain.DatasetIterator | None = None

    @property
    @abstractmethod
    def active(self) -> bool:
        """Whether any part of it still learns."""

    @property
    @abstractmethod
    def state(self) -> PyTree:
        """All that it needs to resume, in the same shapes at every step."""

    @abstractmethod
    def restore(self, step: int, state: PyTree) -> None:
        """Continue from the state after `step` steps. Raise UserError where it is of another training."""

    @abstractmethod
    def advance(self, step: int) -> int:
        """Train on after `step` steps; return the number reached. Raise UserError where a loss is not finite."""

    @abstractmethod
    def judge(self, step: int) -> None:
        """End a round: validate, keep the best parameters, report."""


def run_rounds(
    learner: Learner,
    folder: Path | None,
    seconds: float,
    steps: int | None,
    agreed: Callable[[bool], bool] = bool,
) -> int:
    """Train to the end; return the number of steps.

    With a folder the state is kept there, no more than `seconds` or `steps` of work are lost, and the same call resumes
    from it. Raises UserError where it cannot be written or read; SystemExit on SIGTERM, after the current step and its
    checkpoint. `agreed` makes an answer that of all hosts.
    """
    step = 0
    with ExitStack() as stack:
        checkpoints = None
        if folder is not None:
            checkpoints = Checkpoints(folder, seconds, steps)
            stack.enter_context(closing(checkpoints))
            found = checkpoints.resume(learner.state, learner.reader)
            if found is not None:
                step, state = found
                learner.restore(step, state)
        termination = stack.enter_context(Termination())
        while step < learner.total and learner.active:
            step = learner.advance(step)
            if step % learner.round == 0 or step == learner.total:
                learner.judge(step)
            asked = agreed(termination.requested)
            if checkpoints and (asked or agreed(checkpoints.due(step))):
                checkpoints.save(step, learner.state, learner.reader)
            if asked and step < learner.total and learner.active:
                kept = (
                    "the same command goes on from there" if checkpoints else "without a folder nothing of it is kept"
                )
                raise SystemExit(f"stopped by SIGTERM after step {step} of {learner.total}; {kept}")
    return step
