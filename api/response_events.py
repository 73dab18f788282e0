"""The events that tell how a response comes into being, as frames with a running number.

created  in_progress
item added  part added  delta ... delta  text done  part done  item done      of a message
item added  arguments delta  arguments done  item done                        of each call
completed | incomplete | failed
"""

from collections.abc import Iterator
from typing import Any

from .response_object import CallItem, MessageItem, ResponseDraft, text_part
from .sse import frame


class EventTeller:
    """Tells what is new about a draft, each thing once."""

    def __init__(self, draft: ResponseDraft) -> None:
        self._draft = draft
        self._next_number = 0
        self._index = 0  # of the first item that is not closed
        self._is_open = False
        self._num_texts = 0  # told of it

    def begin(self) -> Iterator[bytes]:
        """Say that there is a response."""
        yield self._whole("response.created")
        yield self._whole("response.in_progress")

    def news(self) -> Iterator[bytes]:
        """Tell what has been added since; an item is closed when there is another behind it."""
        items = self._draft.items
        while self._index < len(items):
            match items[self._index]:
                case CallItem() as item:
                    yield from self._call(item)
                case MessageItem() as item:
                    yield from self._more_of(item)
                    if item is items[-1]:
                        return
                    yield from self._close(item)
            self._index += 1

    def end(self) -> Iterator[bytes]:
        """Close what is open, and say how the response ended."""
        yield from self.news()
        if self._is_open:
            item = self._draft.items[self._index]
            assert isinstance(item, MessageItem)
            yield from self._close(item)
        yield self.last()

    def last(self) -> bytes:
        """Say how the response ended."""
        return self._whole(f"response.{self._draft.status.value}")

    def _more_of(self, item: MessageItem) -> Iterator[bytes]:
        if not self._is_open:
            self._is_open = True
            empty = {**self._draft.item_object(item), "status": "in_progress", "content": []}
            yield self._of_item("response.output_item.added", item=empty)
            yield self._of_part("response.content_part.added", item, part=text_part(""))
        for text in item.texts[self._num_texts :]:
            self._num_texts += 1
            yield self._of_part("response.output_text.delta", item, delta=text, logprobs=[])

    def _close(self, item: MessageItem) -> Iterator[bytes]:
        text = item.text
        yield self._of_part("response.output_text.done", item, text=text, logprobs=[])
        yield self._of_part("response.content_part.done", item, part=text_part(text))
        told = self._draft.item_object(item)
        if not self._draft.status.is_final:  # calls follow it
            told["status"] = "completed"
        yield self._of_item("response.output_item.done", item=told)
        self._is_open = False

    def _call(self, item: CallItem) -> Iterator[bytes]:
        arguments = item.call.arguments
        begun = item.to_object("in_progress")
        yield self._of_item("response.output_item.added", item=begun)
        kind = "response.function_call_arguments"
        yield self._of_item(f"{kind}.delta", item_id=item.id, delta=arguments)
        yield self._of_item(f"{kind}.done", item_id=item.id, arguments=arguments)
        yield self._of_item("response.output_item.done", item=item.to_object())

    def _whole(self, kind: str) -> bytes:
        return self._frame(kind, response=self._draft.to_object())

    def _of_part(self, kind: str, item: MessageItem, **facts: Any) -> bytes:
        return self._of_item(kind, item_id=item.id, content_index=0, **facts)

    def _of_item(self, kind: str, **facts: Any) -> bytes:
        return self._frame(kind, output_index=self._index, **facts)

    def _frame(self, kind: str, **facts: Any) -> bytes:
        number, self._next_number = self._next_number, self._next_number + 1
        return frame({"type": kind, "sequence_number": number, **facts}, event=kind)
