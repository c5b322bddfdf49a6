"""The end of `fit` on the terminal: the first steps of what to do next."""

from typing import Any

from saccade.cli.summary import result_text

SUMMARY: dict[str, Any] = {
    "run": "r", "chosen": "mlp", "validation": {"accuracy": 0.5}, "seconds": 3.0, "warnings": ["one file left out"],
    "split": {"validation": 40}, "classes": ["a", "b"],
}  # fmt: skip


def test_the_first_three_steps_follow_the_warnings() -> None:
    advice = [{"kind": "photos", "text": f"step {n}" + "\x1b" * (n == 1)} for n in range(5)]
    assert result_text({**SUMMARY, "next": {"advice": advice}}).splitlines()[2:7] == [
        "Warning  one file left out",
        "Next     step 0",
        "Next     step 1\\x1b",
        "Next     step 2",
        "Took     3.0 s",
    ]


def test_a_summary_that_knows_of_no_next_is_told_as_before() -> None:
    before = result_text(SUMMARY)
    assert "Next" not in before
    assert result_text({**SUMMARY, "next": None}) == result_text({**SUMMARY, "next": {"advice": []}}) == before
