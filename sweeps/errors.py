"""What a user can put right: these errors are shown without a traceback."""


class UserError(ValueError):
    """Something the user can put right: the text says what, and is shown without a traceback."""


class StoreError(UserError):
    """Results cannot be kept where they were asked to be; the text says why and what to do."""
