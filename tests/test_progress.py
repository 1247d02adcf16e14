import io
import time

import pytest

from twinrank.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("wait", [0.0, 0.3])
@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_a_bar_is_shown_on_a_terminal_once_work_takes_a_while(monkeypatch, stream, wait):
    monkeypatch.setattr("twinrank.progress.SHOWN_AFTER_S", 0.2)
    shown = stream()
    monkeypatch.setattr("sys.stderr", shown)
    with progress_bar("reading \x1b[2J", 4, unit="kB") as advance:
        time.sleep(wait)
        advance(1, "loss .5")
        advance(2)
    text = shown.getvalue()
    if stream is Terminal and wait:
        assert "reading \\u001b[2J" in text
        assert "loss .5" in text
        assert "kB/s" in text
    else:
        assert "reading" not in text
    with progress_bar(None, 4) as advance:
        advance(4)
    assert shown.getvalue() == text
