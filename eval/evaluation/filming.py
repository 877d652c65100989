"""
Film an agent: a GIF with what happens on the left and what the agent gets to see on the right.

What it sees is the observation behind all wrappers, before frames are stacked: pictures enlarged, other numbers as bars, each
scaled by the greatest that it comes to in the film. The same arguments lead to the same bytes.
"""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from eval.conditions import Condition
from eval.evaluation.agents import Agent, fit_env, seed_agent
from eval.evaluation.environments import EnvSpec, make_env
from eval.evaluation.games import FINISHED

SIDE = 168
"""Height of both pictures, and width of the right one, in pixels."""
MAX_WIDTH = 420
"""Of the left picture."""
MAX_BYTES = 600_000
"""Of the file: of a larger film, every second frame is left out, and the end if that is not enough."""

_N_GAMES = 50
_MARGIN, _LINE, _WIDEST_TEXT = 6, 16, 300
_FASTEST = 80  # milliseconds per frame
_N_COLOURS = 40
_N_SAMPLES = 12  # of the frames, from which colours are chosen
_MAX_BARS = 56
_INK, _PAPER, _FAINT, _BAR, _MARK = (235, 235, 235), (24, 26, 32), (90, 94, 104), (86, 180, 233), (230, 159, 0)
_ALWAYS = [*np.linspace(0, 255, 16).astype(int).repeat(3).tolist(), *_INK, *_PAPER, *_FAINT, *_BAR, *_MARK]


class Shot(NamedTuple):
    """
    A moment of a film.

    :param picture: what happens, RGB; ``None`` where that can't be drawn
    :param seen: what the agent sees: ``(height, width)`` or ``(height, width, 3)`` uint8, or ``(n,)`` float64
    :param mark: ``"hidden"``, ``"frozen"`` or nothing
    :param game: number of the game, from 1
    :param step: decisions of the agent so far in the game
    :param score: of the game so far
    """

    picture: Image.Image | None
    seen: np.ndarray
    mark: str
    game: int
    step: int
    score: float


def film(
    agent: Agent,
    spec: EnvSpec,
    condition: Condition,
    path: Path,
    seed: int,
    max_steps: int = 150,
    deterministic: bool = True,
    epsilon: float = 0.0,
) -> None:
    """
    Have an agent play, and film it; when a game is over, the next one follows.

    :param agent: who plays
    :param spec: where
    :param condition: what is to be seen
    :param path: of the GIF
    :param seed: of the first game
    :param max_steps: decisions that are filmed
    :param deterministic: whether the agent takes its best action, rather than to draw one
    :param epsilon: probability that an action drawn uniformly takes the place of the agent's
    :raises ValueError: if ``max_steps`` is below 1, ``epsilon`` is no probability, or agent, environment and condition do not
        go together
    """
    if max_steps < 1:
        raise ValueError(f"max_steps must be at least 1, got {max_steps}")
    if not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon must be from 0 to 1, got {epsilon!r}")
    is_drawn, frames_per_second = _rendering(spec)
    seed_agent(agent, seed, deterministic)
    bare = make_env(spec, condition, seed, _N_GAMES, 1, "rgb_array" if is_drawn else None, epsilon)
    try:
        seeder = bare.unwrapped.envs[0]  # type: ignore[attr-defined]
        shots = list(_shoot(agent, fit_env(agent, bare), seeder, is_drawn, max_steps, deterministic))
    finally:
        bare.close()
    frames = draw_shots(shots, f"{spec.env_id}, {condition}")
    path.write_bytes(_gif(frames, max(_FASTEST, round(1000 / frames_per_second))))


def _rendering(spec: EnvSpec) -> tuple[bool, float]:
    """Tell whether an environment can be drawn, and how many frames per second it is made for."""
    env = make_env(spec, Condition(), 0, 1, 1)
    try:
        (metadata,) = env.get_attr("metadata")
        return "rgb_array" in (metadata.get("render_modes") or ()), float(metadata.get("render_fps") or 30)
    finally:
        env.close()


def _shoot(agent: Agent, env: Any, seeder: Any, is_drawn: bool, max_steps: int, deterministic: bool) -> Iterator[Shot]:
    """Play, and yield what is to be seen before each decision and at the end of each game."""
    obs, state, starts = env.reset(), None, np.ones(1, bool)
    n_games = 0
    for _ in range(max_steps):
        picture = _shrunk(seeder.render()) if is_drawn else None
        seen, info = seeder.seen
        mark = "hidden" if info.get("observed") is False else "frozen" if info.get("frozen") else ""
        recorder = seeder.recorder
        shot = Shot(picture, _panel(seen), mark, n_games + 1, recorder.length, recorder.score)
        yield shot
        actions, state = agent.predict(obs, state=state, episode_start=starts, deterministic=deterministic)
        obs, _, starts, infos = env.step(actions)
        for row in infos[0].get(FINISHED, ()):
            n_games += 1
            yield shot._replace(step=row.length, score=row.score)
        if recorder.game is None:
            return


def _shrunk(picture: Any) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(picture, np.uint8)).convert("RGB")
    scale = min(SIDE / image.height, MAX_WIDTH / image.width)
    size = max(round(image.width * scale), 1), max(round(image.height * scale), 1)
    return image.resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST)


def _panel(obs: Any) -> np.ndarray:
    """Choose what of an observation is drawn: its first picture, or all its numbers."""
    leaves = list(_leaves(obs))
    pictures = [picture for picture in map(_picture, leaves) if picture is not None]
    if pictures:
        return pictures[0]
    return np.concatenate([np.ravel(leaf).astype(np.float64) for leaf in leaves])


def _leaves(obs: Any) -> Iterator[np.ndarray]:
    if isinstance(obs, dict):
        for part in obs.values():
            yield from _leaves(part)
    else:
        yield np.array(obs)  # the environment may go on to write into its own


def _picture(leaf: np.ndarray) -> np.ndarray | None:
    if leaf.dtype != np.uint8 or leaf.ndim not in (2, 3) or min(leaf.shape[:2]) < 1:
        return None
    if leaf.ndim == 2:
        return leaf
    if leaf.shape[0] < leaf.shape[2]:  # channels first
        leaf = leaf.transpose(1, 2, 0)
    return leaf[:, :, :3] if leaf.shape[2] == 3 else leaf[:, :, -1]


def draw_shots(shots: Sequence[Shot], title: str) -> list[Image.Image]:
    """
    Draw the frames of a film.

    :param shots: what is to be seen
    :param title: stands at the foot of each
    :return: a picture for each, all of one size
    """
    scale = None
    if shots[0].seen.ndim == 1:
        scale = np.nanmax(np.abs([shot.seen for shot in shots]), axis=0, initial=1e-9)
    return [_frame(shot, title, scale) for shot in shots]


def _frame(shot: Shot, title: str, scale: np.ndarray | None) -> Image.Image:
    left = 0 if shot.picture is None else shot.picture.width + _MARGIN
    width = max(left + SIDE + 2 * _MARGIN, _WIDEST_TEXT)
    top = _LINE + _MARGIN
    image = Image.new("RGB", (width, top + SIDE + _MARGIN + 2 * _LINE), _PAPER)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default()
    if shot.picture is not None:
        draw.text((_MARGIN, 4), "what happens", fill=_INK, font=font)
        image.paste(shot.picture, (_MARGIN, top))
        corners = (_MARGIN - 1, top - 1, _MARGIN + shot.picture.width, top + shot.picture.height)
        draw.rectangle(corners, outline=_FAINT)
    draw.text((_MARGIN + left, 4), "what the agent sees", fill=_INK, font=font)
    panel = _enlarged(shot.seen) if scale is None else _bars(shot.seen, scale)
    corner = (_MARGIN + left, top)
    image.paste(panel, corner)
    draw.rectangle(
        (corner[0] - 1, top - 1, corner[0] + panel.width, top + panel.height), outline=_MARK if shot.mark else _FAINT
    )
    if shot.mark:
        _stamp(draw, shot.mark, (corner[0] + panel.width // 2, top + panel.height // 2), font)
    draw.text((_MARGIN, top + SIDE + _MARGIN), title, fill=_INK, font=font)
    told = f"game {shot.game}   step {shot.step}   score {shot.score:g}"
    draw.text((_MARGIN, top + SIDE + _MARGIN + _LINE), told, fill=_INK, font=font)
    return image


def _stamp(draw: ImageDraw.ImageDraw, word: str, centre: tuple[int, int], font: Any) -> None:
    """Write a word into the middle, on a ground of its own: it must be readable on any picture."""
    left, top, right, bottom = draw.textbbox((0, 0), word, font=font)
    x, y = centre[0] - (right - left) // 2, centre[1] - (bottom - top) // 2
    draw.rectangle((x - 5, y - 4, x + right - left + 5, y + bottom - top + 4), fill=_PAPER, outline=_MARK)
    draw.text((x - left, y - top), word, fill=_MARK, font=font)


def _enlarged(picture: np.ndarray) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(picture)).convert("RGB")
    longest = max(image.size)
    if longest > SIDE:
        return _shrunk(picture).crop((0, 0, SIDE, SIDE)) if image.height >= image.width else _fitted(image)
    factor = SIDE // longest
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def _fitted(image: Image.Image) -> Image.Image:
    height = max(round(image.height * SIDE / image.width), 1)
    return image.resize((SIDE, height), Image.Resampling.BOX)


def _bars(values: np.ndarray, scale: np.ndarray) -> Image.Image:
    """Draw numbers as bars, upwards from the middle where they are above zero, downwards below."""
    image = Image.new("RGB", (SIDE, SIDE), (0, 0, 0))
    draw = ImageDraw.Draw(image)
    middle, n = SIDE // 2, min(len(values), _MAX_BARS)
    draw.line((0, middle, SIDE, middle), fill=_FAINT)
    for i in range(n):
        left, right = round(i * SIDE / n), round((i + 1) * SIDE / n)
        gap = max((right - left) // 6, 0)
        length = round(float(np.nan_to_num(values[i] / scale[i])) * (middle - 4))
        if length:
            low, high = sorted((middle, middle - length))
            draw.rectangle((left + gap, low, right - 1 - gap, high), fill=_BAR)
    return image


def _gif(frames: list[Image.Image], milliseconds: int) -> bytes:
    """Write frames in the same few colours throughout, fewer frames where the file would become too large."""
    step = max(len(frames) // _N_SAMPLES, 1)
    samples = frames[::step]
    sheet = Image.new("RGB", (frames[0].width, frames[0].height * len(samples)))
    for i, frame in enumerate(samples):
        sheet.paste(frame, (0, i * frame.height))
    # Those that cover the range, not the most frequent ones: a ball is small
    found = sheet.quantize(_N_COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    colours = Image.new("P", (1, 1))
    colours.putpalette([*(found.getpalette() or [])[: 3 * _N_COLOURS], *_ALWAYS])
    images = [frame.quantize(palette=colours, dither=Image.Dither.NONE) for frame in frames]
    content = _written(images, milliseconds)
    if len(content) > MAX_BYTES:
        images, milliseconds = images[::2], 2 * milliseconds
        content = _written(images, milliseconds)
    while len(content) > MAX_BYTES and len(images) > 1:
        images = images[: max(int(0.95 * len(images) * MAX_BYTES / len(content)), 1)]
        content = _written(images, milliseconds)
    return content


def _written(images: list[Image.Image], milliseconds: int) -> bytes:
    file = io.BytesIO()
    images[0].save(file, "GIF", save_all=True, append_images=images[1:], duration=milliseconds, loop=0)
    return file.getvalue()
