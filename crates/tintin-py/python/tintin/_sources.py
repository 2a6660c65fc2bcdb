"""Where data of the user's own lie, and what is raised when they are not what they should be."""

DATA_VARIABLE = "TINTIN_DATA"


class DataError(ValueError):
    """A data file is there but is not what it should be: truncated, altered, or another file."""
