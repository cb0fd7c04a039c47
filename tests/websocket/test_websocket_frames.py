from __future__ import annotations

import pytest
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from ocpp_gateway.websocket.frames import text_frame


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 200_000])
def test_another_library_reads_the_frame_as_it_was_meant(size: int) -> None:
    data = b"x" * size
    reader = StreamReader()
    reader.feed_data(text_frame(data))
    parsing = Frame.parse(reader.read_exact, mask=False, max_size=None)
    try:
        while True:
            next(parsing)
    except StopIteration as parsed:
        frame = parsed.value
    assert (frame.opcode, frame.fin, frame.data) == (Opcode.TEXT, True, data)
