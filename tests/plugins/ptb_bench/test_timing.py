from ptb_bench.timing import Comparison, Timings, in_turn


def test_candidates_take_turns_and_the_first_round_does_not_count():
    calls = []

    def candidate(name, seconds):
        def timed():
            calls.append(name)
            return next(seconds)

        return timed

    timings = in_turn({"a": candidate("a", iter([9, 1, 2])), "b": candidate("b", iter([9, 3, 4]))}, rounds=2)
    assert [(t.name, t.seconds) for t in timings] == [("a", (1, 2)), ("b", (3, 4))]
    assert calls in (["a", "b", "b", "a", "a", "b"], ["b", "a", "a", "b", "b", "a"])


def test_a_comparison_tells_medians_and_ratios():
    compared = Comparison("work", (Timings("ptb", (1.0, 2.0, 9.0)), Timings("other", (4.0,))), ("more",))
    assert compared.ratio(compared.timings[1]) == 0.5
    assert compared.rows() == [
        ("", "MEDIAN", "FASTEST", "SLOWEST", "PTB / IT"),
        ("ptb", "2.000 s", "1.000 s", "9.000 s", ""),
        ("other", "4.000 s", "4.000 s", "4.000 s", "0.50"),
    ]
    told = Comparison("work", compared.timings, unit="other").rows()
    assert [row[4] for row in told] == ["/ other", "0.50", ""]
    assert compared.as_json()["timings"][1] == {"name": "other", "median": 4.0, "seconds": [4.0], "ratio": 0.5}
