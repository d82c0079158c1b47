import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("45m", 2700),
        ("1.5h", 5400),
        ("3600", 3600),
        (" 2 h ", 7200),
        (".5m", 30),
        ("1.s", 1),
        ("0.25", 0.25),
    ],
)
def test_parse(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "90x", "-1s", "0", "0h", "1h30m", "nan", "inf", "1e3", "٣s", "9" * 400])
def test_parse_refuses(text):
    with pytest.raises(
        ValueError, match=r"not a duration: .*expected a number above 0 .* like 90s, 45m or 1.5h"
    ) as error:
        parse_duration(text)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.4, "0:59"), (59.6, "1:00"), (3599.6, "1:00:00"), (3723, "1:02:03"), (360000, "100:00:00")],
)
def test_format(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_format_refuses(seconds):
    with pytest.raises(ValueError, match="expected a finite number of seconds"):
        format_duration(seconds)


@given(st.integers(0, 10**7))
def test_formatted_durations_say_the_same_seconds(seconds):
    parts = [int(part) for part in format_duration(seconds).split(":")]
    assert sum(part * 60**power for power, part in enumerate(reversed(parts))) == seconds


@given(st.floats(1e-3, 1e6), st.sampled_from([("s", 1), ("m", 60), ("h", 3600), ("", 1)]))
def test_parse_is_the_inverse_of_writing(number, unit):
    assert parse_duration(f"{number:.6f}{unit[0]}") == float(f"{number:.6f}") * unit[1]
