"""Every case runs at its smallest size and gives the figures that are relied on."""

import math

import pytest

from benchmarks.runner import Finding, Skipped, case_names, load

FIGURES = {
    "uncertainty_cost": {"time_vs_plain", "mc_dropout_time_vs_plain", "ensemble_time_vs_plain"},
    "group_scoring": {"time_vs_paper_1024", "time_vs_paper_4096", "accuracy_minus_concat"},
    "pacing": {"captured_worst", "captured_vs_equal_share_worst", "overspend"},
    "limits": {"share_of_requests_used", "share_of_tokens_used_reserved", "share_of_tokens_used_actual", "violations", "provoked_429"},
    "uncertainty_quality": {
        "heldout_accuracy",
        "heldout_error_auroc",
        "gain_at_20",
        "gain_at_20_low",
        "gain_at_40",
        "gain_at_40_low",
        "gain_over_margin_at_20",
        "gain_over_margin_at_20_low",
    },
    "dispatch": {"throughput_vs_raw_aiohttp", "throughput_vs_litellm", "throughput_vs_openai", "cpu_ms_per_call", "loop_lag_p99_ms"},
    "step": {"worst_makespan_vs_bound", "median_makespan_vs_bound"},
    "store_read": {"time_vs_raw_sqlite", "time_vs_litellm_cache", "time_vs_inspect_cache"},
    "store_scale": {"read_growth_vs_raw_1m", "read_growth_vs_raw_10m", "write_throughput_vs_raw", "bytes_per_verdict"},
    "replay_quality": {"calls_saved_by_the_better_at_least", "oracle_calls_saved_over_bound_at_least", "gain_at_20_of_mean_z"},
    "trainer_step": {"store_time_vs_constant", "scorer_time_vs_constant"},
    "replay_speed": {"pairs_per_second", "grid_100k_seconds", "limited_pairs_per_second"},
}


SMALLER = {
    "limits": {"WINDOW_S": 4.0},
    "dispatch": {"CALLS": 200},
    "group_scoring": {"LEARNED_PER_PROMPT": 600},
    "pacing": {"STEPS": 50, "PAIRS": 200, "CAP": 50},
    "step": {"WORKLOAD": 16},
    "store_read": {"PROMPTS": 16},
    "store_scale": {"WRITTEN": 768},
    "trainer_step": {"PROMPTS": 2, "ALONE_PROMPTS": 4},
    "uncertainty_quality": {"SCORERS": ("sngp", "ensemble"), "ELSEWHERE": ("pandalm_human",)},
}
"""What a size of one still leaves large, for minutes that say nothing more about the figures."""


LONG = {"ablations", "group_scoring", "limits", "trainer_step", "uncertainty_cost", "uncertainty_quality"}
"""Cases that train scorers or policies, or wait for real windows, up to a minute each."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.exhaustive if name in LONG else pytest.mark.slow) for name in case_names()]
)
def test_a_case_gives_its_figures(name, monkeypatch):
    case = load(name)
    for setting, value in SMALLER.get(name, {}).items():
        monkeypatch.setattr(case, setting, value)
    try:
        found = case.measure(1, 0)
    except Skipped as reason:
        pytest.skip(str(reason))
    finding = found if isinstance(found, Finding) else Finding(figures=found)
    figures = finding.figures
    assert FIGURES.get(name, set()) | set(case.GOALS) <= set(figures) | set(finding.missing)
    assert all(math.isfinite(figure) for figure in figures.values())


def test_every_fixed_case_is_there():
    assert set(FIGURES) <= set(case_names())
