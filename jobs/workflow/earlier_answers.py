"""What a step takes from earlier runs in place of asking, and what it leaves to later ones.

Only for models whose revision is known (`model_revisions`). Knows no run; the answers themselves
are in a `cache`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from .asks import Answer, Ask
from .cache import RowCache, ask_key, key_prefix
from .orders.orders import Answered


@dataclass(frozen=True, slots=True)
class EarlierAnswers:
    """The cache as a step may use it; without one everything is asked, and nothing is kept.

    Attributes:
        revisions: the models whose revision is known, as they are now.
    """

    cache: RowCache | None
    revisions: Mapping[str, str]

    def find(self, asks: Sequence[Ask], answers: dict[str, Answer]) -> Sequence[Ask]:
        """Add to `answers` what an earlier run was answered; return the rest, with their keys."""
        if self.cache is None:
            return asks
        keyed = [self._keyed(ask) for ask in asks]
        found = self.cache.get_many([ask.cache_key for ask in keyed if ask.cache_key])
        for ask in keyed:
            if ask.cache_key in found:
                answers[ask.key] = replace(found[ask.cache_key], is_cached=True)
        return [ask for ask in keyed if ask.cache_key not in found]

    def keep(self, answered: Iterable[Answered], model: str) -> None:
        """Keep answers of a model, unless it was exchanged since it was asked."""
        if self.cache is None or model not in self.revisions:
            return
        prefix = key_prefix(model, self.revisions[model])
        self.cache.put_many(
            {
                each.cache_key: each.answer
                for each in answered
                if each.cache_key and each.cache_key.startswith(prefix)
            }
        )

    def _keyed(self, ask: Ask) -> Ask:
        if ask.model not in self.revisions:
            return ask
        return replace(ask, cache_key=ask_key(ask, self.revisions[ask.model]))
