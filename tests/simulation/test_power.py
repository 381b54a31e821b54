"""False demotions and detections at given volumes, without feedback."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from app.cli import build_app
from app.simulation.power import Power, power
from app.tiering.policy import DEFAULT, Statistic


@pytest.fixture(scope="module")
def found() -> dict[Statistic, tuple[Power, ...]]:
    return {
        statistic: power(
            replace(DEFAULT, statistic=statistic),
            loans_a_month=100,
            rate=0.055,
            probabilities=(0.7, 0.9),
            channels=60,
            random=np.random.default_rng(3),
        )
        for statistic in Statistic
    }


def test_a_stricter_threshold_demotes_fewer_of_every_kind(found: dict[Statistic, tuple[Power, ...]]) -> None:
    for loose, strict in found.values():
        assert strict.false <= loose.false
        assert strict.mild <= loose.mild


@pytest.mark.parametrize("statistic", Statistic)
def test_bad_channels_are_found_and_average_ones_mostly_left_alone(
    found: dict[Statistic, tuple[Power, ...]], statistic: Statistic
) -> None:
    strict = found[statistic][1]
    assert strict.false <= 0.12
    assert strict.bad_in_year >= 0.9
    assert strict.changed_after is not None
    assert 3 <= strict.changed_after <= 9


def test_change_points_find_more_mild_channels_at_fewer_false_demotions(
    found: dict[Statistic, tuple[Power, ...]],
) -> None:
    own, windows = found[Statistic.CHANGE_POINT][0], found[Statistic.WINDOWS][1]
    assert own.false <= windows.false + 0.02
    assert own.mild > windows.mild


def test_the_command_prints_each_threshold_and_volume() -> None:
    arguments = [
        "retier",
        "calibrate",
        "--loans-a-month",
        "50",
        "--channels",
        "10",
        "--probability",
        "0.8",
        "--months",
        "18",
    ]
    run = CliRunner().invoke(build_app(), arguments)
    assert run.exit_code == 0, run.output
    assert "0.80" in run.output
