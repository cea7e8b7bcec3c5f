"""Errors that the user can solve; they are shown without a traceback."""


class UserError(ValueError):
    """An error that the user can solve; the text says how."""


class StoreError(UserError):
    """Results cannot be stored in the given place; the text says why, and what to do."""
