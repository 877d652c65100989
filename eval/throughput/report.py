"""Tables of the results. Imports neither PyTorch nor Stable-Baselines3."""

from collections.abc import Mapping, Sequence
from typing import Any

from eval.throughput.contestants import OWN
from eval.throughput.flops import update_flops
from eval.throughput.stats import Spread, Summary, summarize

Results = Mapping[str, Any]
"""What the benchmark writes as JSON; see :func:`eval.throughput.cli.run`."""

NOTES = {
    "updates": (
        "Each with its own replay, no target updates. An update of SB3's DQN trains single stacks, a tenth of the frames.\n"
        "Networks going forward: both over the windows and the step after (drqn_sb3, plain), online once and both over the\n"
        "next frames (PFRL), online and target (TorchRL, which has no double Q, and SB3's DQN), one (RecurrentPPO)."
    ),
    "learn": "SB3's DQN learns as hyperparams/dqn.yml ships it: more, smaller updates.",
}
"""First word of a measurement's name -> what to know about its contestants."""


def rates(measurement: Mapping[str, Any]) -> dict[str, dict[int, float]]:
    """
    :param measurement: of the results
    :return: contestant -> round -> units per second
    """
    return {
        name: {entry["round"]: entry["count"] / entry["seconds"] for entry in contestant["rounds"]}
        for name, contestant in measurement["contestants"].items()
    }


def summaries(measurement: Mapping[str, Any]) -> dict[str, Summary]:
    """
    :param measurement: of the results
    :return: contestant -> medians and ratios, for those that have been measured
    """
    return summarize(rates(measurement), measurement["reference"])


def number(value: float) -> str:
    """
    :param value: not negative
    :return: three digits at least, SI prefixes above a million
    """
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= size:
            return f"{value / size:.3g} {prefix}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ratio_words(ratio: Spread | None) -> str:
    """
    :param ratio: how many times as fast the reference is
    :return: median, and the range of the rounds; nothing for the reference itself
    """
    if ratio is None or ratio.lowest == ratio.highest == 1:
        return ""
    return f"{ratio.median:.2f} ({ratio.lowest:.2f} to {ratio.highest:.2f})"


def lay_out(rows: Sequence[Sequence[str]]) -> str:
    """
    :param rows: of cells, the first row is the head; the first column is flush left, the others are flush right
    :return: the table; columns that hold nothing are left out
    """
    filled = [column for column in range(len(rows[0])) if column == 0 or any(row[column] for row in rows[1:])]
    rows = [[row[column] for column in filled] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *cells]).rstrip())
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)


def measurement_table(measurement: Mapping[str, Any]) -> str:
    """
    :param measurement: of the results
    :return: a line per contestant; those without numbers say why
    """
    unit, reference, by_name = measurement["unit"], measurement["reference"], summaries(measurement)
    trains = measurement["name"] == "updates"
    note = NOTES.get(measurement["name"].split()[0])
    head = ["", f"{unit}/s", "lowest", "highest", *(["frames/s"] if trains else []), "n", f"{reference} / this one"]
    rows, notes = [[*head, "parameters", "precision", "steps/update"]], []
    for name, contestant in measurement["contestants"].items():
        if contestant["status"] != "measured":
            notes.append(f"{name}: {contestant['status']}")
        if name not in by_name:
            continue
        rate, ratio = by_name[name]
        info = contestant["info"]
        frames = [number(rate.median * info["frames_per_update"])] if trains else []
        parameters = f"{info['parameters']:,}" if "parameters" in info else ""
        steps = f"{info['steps_per_update']:g}" if "steps_per_update" in info else ""
        cells = [*map(number, rate[:3]), *frames, str(rate.n), ratio_words(ratio)]
        rows.append([name, *cells, parameters, info.get("precision", ""), steps])
    table = [lay_out(rows)] if len(rows) > 1 else []
    return "\n".join([measurement["title"], *([note] if note else []), *table, *notes])


def roofline(results: Results) -> list[dict[str, Any]]:
    """
    Which share of what the machine can do the updates of this project's network are.

    The work is counted by hand and the same for all; what an implementation computes beyond it is its own loss.

    :param results: of the benchmark
    :return: rows: ``contestant``, ``precision``, ``flops_per_update``, ``achieved`` and ``peak`` per second, ``share``
    """
    by_name = {measurement["name"]: measurement for measurement in results["measurements"]}
    if not {"updates", "peak"} <= by_name.keys():
        return []
    peaks = {name: summary.rate.median for name, summary in summaries(by_name["peak"]).items()}
    arguments = results["arguments"]
    sizes = ("image_size", "hidden_size", "n_actions", "batch_size", "sequence_length")
    flops = update_flops(*(arguments[size] for size in sizes))
    rows, own = [], {contestant.name for contestant in OWN}
    for name, summary in summaries(by_name["updates"]).items():
        precision = by_name["updates"]["contestants"][name]["info"]["precision"]
        if name not in own or precision not in peaks:
            continue
        achieved = flops * summary.rate.median
        row = {"contestant": name, "precision": precision, "flops_per_update": flops, "achieved": achieved}
        rows.append({**row, "peak": peaks[precision], "share": achieved / peaks[precision]})
    return rows


def roofline_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """
    :param rows: of :func:`roofline`
    :return: the table
    """
    table = [["", "precision", "FLOP/update", "FLOP/s", "peak FLOP/s", "share"]]
    for row in rows:
        numbers = [number(row[key]) for key in ("flops_per_update", "achieved", "peak")]
        table.append([row["contestant"], row["precision"], *numbers, f"{row['share']:.0%}"])
    return "Share of the peak (updates/s x operations counted by hand, against the measured peak)\n" + lay_out(table)


def memory_table(entries: Mapping[str, Mapping[str, Any]], image_size: int) -> str:
    """
    :param entries: bytes per step of the results
    :param image_size: height and width of a frame
    :return: the table; a frame is the least that a step can take
    """
    rows, notes = [["", "traced", "resident", "on device", "frames", "n"]], []
    for name, entry in entries.items():
        if entry["status"] != "measured":
            notes.append(f"{name}: {entry['status']}")
            continue
        most = max(entry["traced"], entry["resident"]) + entry["device"]
        taken = [f"{entry[key]:,.0f}" for key in ("traced", "resident", "device")]
        rows.append([name, *taken, f"{most / image_size**2:.3f}", f"{entry['steps']:,}"])
    return "\n".join(["Bytes per step stored, as measured", lay_out(rows), *notes])


def profile_table(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """
    :param name: of the contestant
    :param rows: of its profile
    :return: the table
    """
    table = [["", "ms/update", "share"]]
    for row in sorted(rows, key=lambda row: -row["share"]):
        table.append([row["part"], f"{1e3 * row['seconds_per_update']:.2f}", f"{row['share']:.1%}"])
    return f"Where an update's time goes: {name}\n" + lay_out(table)


def describe(results: Results) -> str:
    """
    :param results: of the benchmark
    :return: what it ran on, and how
    """
    machine, arguments = results["machine"], results["arguments"]
    gpus = {
        contestant["info"].get("versions", {}).get("gpu")
        for measurement in results["measurements"]
        for contestant in measurement["contestants"].values()
    }
    device = ", ".join(sorted(filter(None, gpus))) if results["device"] == "cuda" else f"{arguments['threads']} threads"
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores ({' '.join(machine['instructions'])}); {results['device']}: {device}",
        f"{arguments['image_size']}x{arguments['image_size']} frames, LSTM {arguments['hidden_size']}, "
        f"{arguments['batch_size']} windows x {arguments['sequence_length']} steps, one step of double Q",
    ]
    if (machine["load"] or 0) > 0.5:
        lines.append(f"The machine was busy when this began (load {machine['load']}): trust the ratios more than the rates.")
    return "\n".join(lines)


def render(results: Results) -> str:
    """
    :param results: of the benchmark
    :return: everything as text
    """
    blocks = [describe(results), *map(measurement_table, results["measurements"])]
    if results["roofline"]:
        blocks.append(roofline_table(results["roofline"]))
    if results["bytes_per_step"]:
        blocks.append(memory_table(results["bytes_per_step"], results["arguments"]["image_size"]))
    for measurement in results["measurements"]:
        for name, contestant in measurement["contestants"].items():
            if "profile" in contestant["extras"]:
                blocks.append(profile_table(name, contestant["extras"]["profile"]))
    return "\n\n".join(blocks) + "\n"


def failures(results: Results) -> list[str]:
    """
    :param results: of the benchmark
    :return: what is broken, in words; what is merely missing is no failure
    """
    entries = [(name, entry) for m in results["measurements"] for name, entry in m["contestants"].items()]
    entries += list(results["bytes_per_step"].items())
    broken = [f"{name}: {entry['status']}" for name, entry in entries if entry["status"].startswith("failed")]
    return broken + [
        f"{name}: {key}: {value}"
        for name, entry in entries
        for key, value in entry.get("extras", {}).items()
        if key.endswith("_error")
    ]
