"""``b2m review``: what a change of a project does in effect, from two revisions of its files alone."""

from b2m.review.compare import Review
from b2m.review.reviewing import review

__all__ = ["Review", "review"]
