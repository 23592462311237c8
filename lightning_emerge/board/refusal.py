"""What is answered to a request that cannot be granted."""

from __future__ import annotations


class RefusedError(Exception):
    """A request is refused, with a sentence that says why.

    Args:
        status: of HTTP: 400 malformed, 404 unknown, 413 too large, 422 the records cannot be read, 503 that
            takes too long.
        sentence: what the user is told.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


def damaged(why: str) -> RefusedError:
    """The refusal of records that are not as a fit writes them."""
    return RefusedError(422, f"The records of this run cannot be read: {why}.")
