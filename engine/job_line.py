"""In which order the waiting rows of one job start. Knows their prompts and when they came.

Depth first through the trie of their prompts, the deepest branch first, so that whoever starts
finds the most of its prompt computed by those just before it. Near the job's end the longest
outputs come first instead, so that none of them is left to run alone.

    arrival   prompt                             order
    0         S S S S a        S = one block     3   S S S S S S d    the deepest branch...
    1         T b                                4   S S S S S S e
    2         U c                                0   S S S S a        ...and what is nearest to it
    3         S S S S S S d                      1   T b              no branch left: by arrival
    4         S S S S S S e                      2   U c
"""

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable

from .sequence import Sequence

_MAX_OVERTAKEN = 1024  # rows that came later and start before one

Prompt = tuple[int, ...]


class JobLine:
    """Waiting rows, sorted by prompt.

    A row is overtaken by at most `_MAX_OVERTAKEN` rows that came after it.
    """

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self._keys: list[tuple[Prompt, int]] = []  # sorted; prompt and number
        self._rows: list[Sequence] = []  # in the order of their keys
        self._shared: list[int] = []  # [i]: whole blocks that the prompts i - 1 and i begin with
        self._numbers: OrderedDict[Sequence, int] = OrderedDict()  # oldest first
        self._num_arrived = 0
        self._num_gone = 0  # rows that have started or will not
        self._position: tuple[Prompt, int] = ((), 0)  # key of the row that started last
        self._depth = 0  # blocks that the rows of the present branch share

    def __len__(self) -> int:
        """Return the number of rows that wait here."""
        return len(self._rows)

    def __contains__(self, sequence: Sequence) -> bool:
        """Whether a row waits here."""
        return sequence in self._numbers

    def add(self, sequence: Sequence) -> None:
        """Put a row in its place."""
        key = (tuple(sequence.request.prompt_token_ids), self._num_arrived)
        place = bisect_left(self._keys, key)
        self._keys.insert(place, key)
        self._rows.insert(place, sequence)
        self._shared.insert(place, self._num_shared(place - 1, key[0]))
        if place + 1 < len(self._rows):
            self._shared[place + 1] = self._num_shared(place + 1, key[0])
        self._numbers[sequence] = self._num_arrived
        self._num_arrived += 1

    def remove(self, sequence: Sequence) -> None:
        """Take a row out that will not start."""
        self._remove(self._place_of(sequence))
        self._num_gone += 1

    def pop(self, expected_output: Callable[[Sequence], int] | None = None) -> Sequence:
        """Take out the row that starts next; by longest `expected_output` if that is given."""
        oldest = next(iter(self._numbers))
        if self._num_gone >= self._numbers[oldest] + _MAX_OVERTAKEN:
            place = self._place_of(oldest)
        elif expected_output is None:
            place = self._nearest()
        else:
            place = self._longest(expected_output)
        self._position = self._keys[place]
        self._num_gone += 1
        return self._remove(place)

    def _nearest(self) -> int:
        """Return the place of the row that shares most with the one that started last."""
        here = bisect_left(self._keys, self._position)
        if self._depth:
            if self._shares_branch(here):
                return here
            if self._shares_branch(here - 1):
                return here - 1
        return self._next_branch(here)

    def _next_branch(self, here: int) -> int:
        """Leave an exhausted branch for the deepest of those that fork off the nearest."""
        prompt = self._position[0]
        left, right = self._num_shared(here - 1, prompt), self._num_shared(here, prompt)
        depth = max(left, right)
        begin, end = self._branch_around(here, left, right) if depth else (0, len(self._rows))
        deepest = max(self._shared[begin + 1 : end], default=0)
        self._depth = max(depth, deepest)
        if deepest > depth:
            return self._shared.index(deepest, begin + 1, end) - 1
        if not depth:  # nobody shares anything
            return self._place_of(next(iter(self._numbers)))
        return here if right == depth else here - 1

    def _branch_around(self, here: int, left: int, right: int) -> tuple[int, int]:
        """Return the places of all that share as much with the last one as its nearest do."""
        depth = max(left, right)
        begin = here - (left == depth)
        while 0 < begin < here and self._shared[begin] >= depth:
            begin -= 1
        end = here + (right == depth)
        while here < end < len(self._rows) and self._shared[end] >= depth:
            end += 1
        return begin, end

    def _longest(self, expected_output: Callable[[Sequence], int]) -> int:
        """Return the place of a row with the longest output; of many, what `_nearest` says."""
        lengths = [expected_output(sequence) for sequence in self._rows]
        longest = max(lengths)
        nearest = self._nearest()
        if lengths[nearest] == longest:
            return nearest
        return lengths.index(longest)

    def _num_shared(self, place: int, prompt: Prompt) -> int:
        """Count the whole blocks that `prompt` and the one at a place begin with alike."""
        if not 0 <= place < len(self._keys):
            return 0
        other, size = self._keys[place][0], self._block_size
        num_blocks = min(len(other), len(prompt)) // size
        for block in range(num_blocks):
            part = slice(block * size, (block + 1) * size)
            if other[part] != prompt[part]:
                return block
        return num_blocks

    def _shares_branch(self, place: int) -> bool:
        if not 0 <= place < len(self._keys):
            return False
        num_tokens = self._depth * self._block_size
        return self._keys[place][0][:num_tokens] == self._position[0][:num_tokens]

    def _place_of(self, sequence: Sequence) -> int:
        key = (tuple(sequence.request.prompt_token_ids), self._numbers[sequence])
        return bisect_left(self._keys, key)

    def _remove(self, place: int) -> Sequence:
        sequence = self._rows.pop(place)
        del self._keys[place], self._numbers[sequence]
        shared = self._shared.pop(place)
        if place < len(self._shared):  # what both of its neighbours share with each other
            self._shared[place] = min(shared, self._shared[place])
        return sequence
