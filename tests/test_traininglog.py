"""Pace and spikes, from planted logs."""

from experiments.harness.traininglog import TrainingLog


def log(losses: list[float], seconds: list[float] | None = None) -> list[dict]:
    seconds = seconds or [0.5 * (i + 1) for i in range(len(losses))]
    return [
        {"step": 10 * (i + 1), "loss": loss, "seconds": s}
        for i, (loss, s) in enumerate(zip(losses, seconds, strict=True))
    ]


def test_a_spike_is_an_excursion_above_the_lowest_so_far() -> None:
    found = TrainingLog().of_history(log([4.0, 3.0, 3.3, 2.0, 2.5, 3.0, 1.9, 2.0, 2.9, 1.0]))
    assert found["spikes"] == 2 and found["rise"] == 1.0
    assert TrainingLog().of_history(log([4.0, 3.0, 2.0, 2.1]))["spikes"] == 0


def test_the_pace_leaves_out_the_first_steps() -> None:
    assert TrainingLog().of_history(log([1.0] * 4, [9.0, 9.1, 9.2, 9.3]))["seconds_a_step"] - 0.01 < 1e-9
    assert TrainingLog().of_history(log([1.0], [2.0]))["seconds_a_step"] == 0.2
    assert TrainingLog().measure() == {}
