"""The one exception a user meets: what was got, what was expected, how to mend it, in one line."""


class UserError(ValueError):
    """Input that the user can mend; the command line prints its message alone and exits with 1."""

    def __init__(self, message: str):
        super().__init__(" ".join(message.split()))
