"""Alarms: raised once, when something is wrong, with advice; silent on a healthy training."""

from __future__ import annotations

from lidr.training.telemetry import Alarms, nested


def raised(steps: int, **series: list[float]) -> list[tuple[int, str]]:
    """(step, name) of the alarms on a training whose logged values are these series."""
    alarms = Alarms(steps)
    found = []
    for step in range(1, steps + 1):
        values = {name: values[min(step, len(values)) - 1] for name, values in series.items()}
        found += [(step, name) for name, message in alarms.observe(step, values) if message]
    return found


def test_a_healthy_training_raises_none() -> None:
    accuracy = [0.0, *(0.5 + 0.4 * step / 100 for step in range(99))]
    reward = [0.01 * (step % 7 - 3) + 0.002 * step for step in range(100)]
    assert raised(100, reward_accuracy=accuracy, chosen_reward=reward, grad_norm=[1.0, 2.0, 1.5] * 40) == []


def test_pairs_that_are_told_apart_at_once() -> None:
    assert raised(100, reward_accuracy=[0.0, 0.9, 1.0, 1.0, 1.0]) == [(5, "trivial_pairs")]
    late = [0.5] * 20 + [1.0] * 80  # learned, but not within the first tenth
    assert raised(100, reward_accuracy=late) == []


def test_chosen_answers_that_become_less_likely() -> None:
    found = raised(100, chosen_reward=[-0.02 * step for step in range(100)])
    assert found == [(10, "chosen_logp_falling")]
    assert raised(100, chosen_reward=[0.5 * (-1) ** step for step in range(100)]) == []  # noise around nothing


def test_a_gradient_that_jumps() -> None:
    assert raised(40, grad_norm=[1.0] * 20 + [30.0] + [1.0] * 19 + [50.0]) == [(21, "gradient_norm")]
    assert raised(40, grad_norm=[100.0] + [1.0] * 39) == []  # the first steps know no usual norm yet


def test_names_of_groups_become_nested_values() -> None:
    assert nested({"loss": 1.0, "language/es/nll": 2.0, "kind/dominant/nll": 3.0}) == {
        "loss": 1.0,
        "groups": {"language": {"es": {"nll": 2.0}}, "kind": {"dominant": {"nll": 3.0}}},
    }
