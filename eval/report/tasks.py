"""Whether agents in one environment had the same task: an environment's id alone does not say it."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from eval.conditions import WRAPPERS, Condition, as_list
from eval.report.data import NOT_TRAINED, is_plug_in, trained_on
from eval.report.findings import by_value, folders, full_name, group
from eval.results import Result

FRAME_SKIP = "rl_zoo3.wrappers.FrameSkip"
ATARI_WRAPPER = "stable_baselines3.common.atari_wrappers.AtariWrapper"
NATIVE_ATARI = "drqn_sb3.envs.native_atari"
HOW_IT_RUNS = frozenset({"num_threads", "monitor_dir", "override_existing"})
"""Arguments of :data:`NATIVE_ATARI` that no game depends on."""


def find_other_tasks(results: Sequence[Result]) -> Iterator[str]:
    """
    :param results: any
    :return: where agents in one environment had different arguments of it
    """
    for env, same in group(results, lambda result: result.env).items():
        if len({_env_kwargs(result) for result in same}) > 1:
            yield f"not comparable: different env_kwargs in {env}: {by_value(same, _env_kwargs)}"


def find_other_preprocessing(results: Sequence[Result]) -> Iterator[str]:
    """
    :param results: any
    :return: where agents in one environment had different wrappers, those of conditions aside
    """
    for env, same in group(results, lambda result: result.env).items():
        if len({wrappers_of(result) for result in same}) > 1:
            groups = by_value(same, lambda result: wrappers_of(result) or "none")
            yield f"different env_wrapper in {env}, and so other observations, actions or rewards: {groups}"


def find_trained_elsewhere(results: Sequence[Result]) -> Iterator[str]:
    """
    :param results: any
    :return: agents that were trained, and not in the environment that they were evaluated in, or nobody knows where
    """
    visitors = [result for result in results if trained_on(result) == NOT_TRAINED and not is_plug_in(result)]
    for (env, agent, trained_env), same in group(visitors, lambda r: (r.env, r.agent, r.facts["trained_env"])).items():
        origin = "what it was trained on is not known" if trained_env is None else f"trained on {trained_env}"
        name = full_name(env, agent, NOT_TRAINED)
        yield f"{name}: {origin}, so it counts neither as with nor as without memory: {folders(same)}"


def wrappers_of(result: Result) -> str:
    """
    :param result: a result
    :return: the wrappers that its agent sees the environment through, without those of its condition; empty for none
    """
    config = result.facts["config"]
    entries = [_entry(item) for item in as_list(config.get("env_wrapper"))]
    entries = [(name, arguments) for name, arguments in entries if name.rsplit(".", 1)[-1] not in WRAPPERS]
    held = (FRAME_SKIP, {"skip": int(Condition.parse(result.condition).level("repeat") or 1)}) if result.condition else None
    if held in entries:
        # The condition's is the last of these: it is put behind the task's
        del entries[len(entries) - 1 - entries[::-1].index(held)]
    for name, arguments in map(_entry, as_list(config.get("vec_env_wrapper"))):
        if name == NATIVE_ATARI:  # the same pictures, only faster
            name, arguments = ATARI_WRAPPER, {key: arguments[key] for key in sorted(set(arguments) - HOW_IT_RUNS)}
        entries.append((name, arguments))
    return ", ".join(f"{name}({json.dumps(arguments, sort_keys=True)})" if arguments else name for name, arguments in entries)


def _env_kwargs(result: Result) -> str:
    return json.dumps(result.facts["config"].get("env_kwargs") or {}, sort_keys=True)


def _entry(item: Any) -> tuple[str, dict[str, Any]]:
    """Name and arguments of an entry such as ``a.B`` or ``{a.B: {c: 1}}``."""
    if not isinstance(item, dict):
        return str(item), {}
    name = next(iter(item))
    return str(name), dict(item[name] or {})
