"""Write short clips of Atari games: what was seen, what was heard, and what was done, of the same second.

    python examples/atari/make_clips.py OUT --clips 8000 --seed 0

    OUT/frames/KEY.png     a long exposure of the clip, 32 x 32 RGB: of every pixel its brightest moment, so that what moves leaves a streak
    OUT/audio/KEY.wav      the game's sound, 7,680 Hz mono 16 bit, 1 s
    OUT/actions/KEY.npz    actions (12,) int64 of ALE's 18, rewards (12,) float32: one every 5 frames, 12 a second
    OUT/labels.csv         key, game, scene (game, and whether the player fires), episode

A scripted player moves as each game asks for, and keeps to one manner for each clip: it fires or holds its fire, and heads one way, then
another. So the three truly depend on one another: a shot is an action, a sound and a streak of light, and a move is an action and a smear.
Nothing is downloaded: the games come with the package `ale-py`. The same seed gives the same files.
"""

import argparse
import csv
import io
import itertools
import json
import sys
import wave
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ale_py import ALEInterface, LoggerMode, roms
from PIL import Image
from scipy.signal import resample_poly

from mmtool.common.artefact_files import Kind, of_header
from mmtool.common.errors import MmtoolError, UsageError
from mmtool.common.log import log, track
from mmtool.common.output import OutputPath

# The headings a player chooses from, (vertical, horizontal), by game. All of them make a sound for each shot.
HEADINGS = {
    "seaquest": ((-1, -1), (-1, 0), (-1, 1), (1, -1), (1, 0), (1, 1)),  # a submarine dives and comes up
    "chopper_command": ((0, -1), (0, 1), (0, -1), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1)),  # a helicopter flies on
    "beam_rider": ((0, -1), (0, 0), (0, 1)),  # one tap is a beam to the left or right
    "atlantis": ((0, -1), (0, 0), (0, 1)),  # nothing moves: three guns
}
GAMES = tuple(HEADINGS)
STEPS, FRAME_SKIP = 12, 5
CLIPS_PER_EPISODE = 16
SAMPLE_RATE_HZ, KEPT_RATE_HZ, SILENCE = 512 * 60, 128 * 60, 128  # of the emulator's 8 bit sound: 512 samples for each of 60 frames a second
ROWS, BLOCK = slice(12, 204), (6, 5)  # of the screen (210 x 160): those that are kept; what becomes one pixel

FIRING_RATE, TAP_RATE = 0.6, 0.4  # shares of steps with the button pressed, where the player fires, and with a tap
WARM_UP_STEPS, BETWEEN_STEPS, PAUSE_STEPS = (12, 48), 6, 18  # idle: before an episode, between clips (old shots fly off), after a lost life
SURFACE, DEEP, LITTLE_OXYGEN = 30, 95, 14  # seaquest: depths, and when to come up
DEPTH, OXYGEN, COLUMN = 97, 102, 70  # its places in RAM
LEFT_EDGE, RIGHT_EDGE = 26, 128  # its columns
COLUMNS = ("key", "game", "scene", "episode")
FILES = (r"frames/[a-z_]+-\d{5,}\.png", r"audio/[a-z_]+-\d{5,}\.wav", r"actions/[a-z_]+-\d{5,}\.npz", r"labels\.csv")
KIND = Kind("clips of games", ("labels.csv",), of_header(",".join(COLUMNS)), FILES)  # what --force may replace
VERTICAL, HORIZONTAL = {-1: "UP", 0: "", 1: "DOWN"}, {-1: "LEFT", 0: "", 1: "RIGHT"}


@dataclass(frozen=True)
class Clip:
    """picture (32, 32, 3) uint8; sound (7680,) int16; actions (12,), rewards (12,); firing: the player's manner."""

    picture: np.ndarray
    sound: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    firing: bool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, metavar="OUT", help="the folder to write")
    parser.add_argument("--clips", type=int, default=8000, help="how many, dealt evenly among the games (default 8000)")
    parser.add_argument("--games", default=",".join(GAMES), help=f"default {','.join(GAMES)}")
    parser.add_argument("--seed", type=int, default=0, help="decides what the player does (default 0)")
    parser.add_argument("--force", action="store_true", help="replace an OUT that this script wrote")
    arguments = parser.parse_args()
    try:
        with OutputPath(arguments.output, arguments.force, kinds=(KIND,)).directory() as folder:
            counts = write_clips(folder, arguments.games.split(","), arguments.clips, arguments.seed)
    except MmtoolError as error:
        sys.exit(f"error: {error}")
    log(f"wrote {sum(counts.values())} clips to {arguments.output}")
    print(json.dumps(counts))


def write_clips(folder: Path, games: list[str], count: int, seed: int) -> dict[str, int]:
    """Write `count` clips into `folder`; give the number of each scene. Raises UsageError for a game without a player."""
    for game in games:
        if game not in GAMES:
            raise UsageError(f"there is no player for {game!r}.", where="--games", fix=f"Choose from: {', '.join(GAMES)}.")
    for name in ("frames", "audio", "actions"):
        (folder / name).mkdir()
    table, scenes = io.StringIO(), Counter[str]()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    share = [count // len(games) + (place < count % len(games)) for place in range(len(games))]
    for game, wanted in zip(games, share, strict=True):
        for number, (episode, clip) in enumerate(track(clips_of(game, wanted, seed), f"playing {game}", wanted)):
            key, scene = f"{game}-{number:05d}", f"{game}-{'firing' if clip.firing else 'silent'}"
            write_clip(folder, key, clip)
            writer.writerow((key, game, scene, f"{game}-{episode:04d}"))
            scenes[scene] += 1
    (folder / "labels.csv").write_text(table.getvalue())
    return dict(scenes)


def clips_of(game: str, count: int, seed: int) -> Iterator[tuple[int, Clip]]:
    """(episode, clip), `count` times: the first ones are the same for every count."""
    endless = ((episode, clip) for episode in itertools.count() for clip in Player(game, seed, episode).play())
    return itertools.islice(endless, count)


class Player:
    """One episode of a game, played by reflexes and a plan that is drawn anew for each clip."""

    def __init__(self, game: str, seed: int, episode: int) -> None:
        self.random = np.random.default_rng([seed, GAMES.index(game), episode])
        self.game, self.ale = game, ALEInterface()
        self.ale.setBool("sound_obs", True)
        self.ale.setFloat("repeat_action_probability", 0.0)
        self.ale.setInt("random_seed", int(self.random.integers(1 << 30)))
        self.ale.loadROM(roms.get_rom_path(game))
        self.actions = {action.name: action for action in self.ale.getLegalActionSet()}

    def play(self) -> Iterator[Clip]:
        """Clips, some of them left out because a life was lost; the episode ends with the game at the latest."""
        self.ale.reset_game()
        self._idle(int(self.random.integers(*WARM_UP_STEPS)))
        for _ in range(CLIPS_PER_EPISODE):
            lives = self.ale.lives()
            clip = self._clip()
            if self.ale.game_over():
                return
            if self.ale.lives() == lives:
                yield clip
                self._idle(BETWEEN_STEPS)
            else:
                self._idle(PAUSE_STEPS)

    def _clip(self) -> Clip:
        firing, plan = bool(self.random.random() < 0.5), self._plan()
        exposure = np.zeros((210, 160, 3), np.uint8)
        sounds, actions, rewards, way = [], [], [], 1
        for vertical, horizontal in plan:
            way = -way if self._at_edge(horizontal * way) else way
            name = self._action(vertical, horizontal * way, firing and self.random.random() < FIRING_RATE)
            seen, sound, reward = self._step(name)
            exposure = np.maximum(exposure, seen)
            sounds.append(sound)
            actions.append(self.actions[name].value)
            rewards.append(reward)
        return Clip(
            _small(exposure), _heard(np.concatenate(sounds)), np.array(actions, np.int64), np.array(rewards, np.float32), firing
        )  # fmt: skip

    def _plan(self) -> list[tuple[int, int]]:
        """(vertical, horizontal) of each step: one heading, and for the last steps often another."""
        turn = int(self.random.integers(STEPS // 2, STEPS + STEPS // 4))
        first, then = (HEADINGS[self.game][self.random.integers(len(HEADINGS[self.game]))] for _ in range(2))
        return [first if step < turn else then for step in range(STEPS)]

    def _at_edge(self, horizontal: int) -> bool:
        """Whether the player would run into the edge of the screen."""
        if self.game != "seaquest":
            return False
        column = self.ale.getRAM()[COLUMN]
        return (horizontal < 0 and column < LEFT_EDGE) or (horizontal > 0 and column > RIGHT_EDGE)

    def _action(self, vertical: int, horizontal: int, fire: bool) -> str:
        """ALE's name of an action, after the reflexes of the game have had their say."""
        ram = self.ale.getRAM()
        if self.game == "seaquest":
            vertical = 1 if ram[DEPTH] < SURFACE else -1 if ram[DEPTH] > DEEP else vertical
            vertical = -1 if ram[OXYGEN] < LITTLE_OXYGEN else vertical
        elif self.game == "beam_rider":
            horizontal = horizontal if self.random.random() < TAP_RATE else 0
        elif self.game == "atlantis":
            horizontal = horizontal if fire else 0
        return VERTICAL[vertical] + HORIZONTAL[horizontal] + ("FIRE" if fire else "") or "NOOP"

    def _step(self, name: str) -> tuple[np.ndarray, np.ndarray, float]:
        """FRAME_SKIP frames: the brighter of the last two (games flicker), their sound, the sum of their rewards."""
        reward, sounds = 0.0, []
        for frame in range(FRAME_SKIP):
            if frame == FRAME_SKIP - 1:
                before = self.ale.getScreenRGB()
            reward += self.ale.act(self.actions[name])
            sounds.append(self.ale.getAudio().copy())
        return np.maximum(before, self.ale.getScreenRGB()), np.concatenate(sounds), reward

    def _idle(self, steps: int) -> None:
        for _ in range(steps * FRAME_SKIP):
            self.ale.act(self.actions["NOOP"])


def _small(screen: np.ndarray) -> np.ndarray:
    """(210, 160, 3) -> (32, 32, 3): the brightest of each block, so that thin shots stay visible."""
    high, wide = BLOCK
    kept = screen[ROWS]
    return kept.reshape(len(kept) // high, high, 160 // wide, wide, 3).max((1, 3))


def _heard(sound: np.ndarray) -> np.ndarray:
    """The emulator's 8 bit samples around 128 -> int16 at the kept rate."""
    low = resample_poly(sound.astype(np.float64) - SILENCE, 1, SAMPLE_RATE_HZ // KEPT_RATE_HZ)
    return np.clip(np.round(low * 256), -32768, 32767).astype("<i2")


def write_clip(folder: Path, key: str, clip: Clip) -> None:
    Image.fromarray(clip.picture).save(folder / "frames" / f"{key}.png")
    np.savez(folder / "actions" / f"{key}.npz", actions=clip.actions, rewards=clip.rewards)
    with wave.open(str(folder / "audio" / f"{key}.wav"), "wb") as file:
        file.setparams((1, 2, KEPT_RATE_HZ, len(clip.sound), "NONE", ""))
        file.writeframes(clip.sound.tobytes())


ALEInterface.setLoggerMode(LoggerMode.Error)  # else a banner for each episode

if __name__ == "__main__":
    main()
