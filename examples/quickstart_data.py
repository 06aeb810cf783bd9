"""Write the quickstart's raw data as a user would have it: pictures, recordings and sentences of the ten digits.

    python examples/quickstart_data.py OUT --seed 0

    OUT/digits/{digit}/{number}.png            scikit-learn's handwritten digits, 8 x 8 grey
    OUT/speech/{digit}_{voice}_{number}.wav    English digits spoken by eSpeak NG in many voices, 8 kHz mono 16 bit
    OUT/sentences.tsv                          key, digit, text: short sentences that name one digit

The three have nothing in common but the digit they show, say or name. Nothing is downloaded: the pictures come with
scikit-learn, the synthesiser with the package `espeakng-loader`. The same seed gives the same files.
"""

import argparse
import csv
import ctypes
import io
import json
import math
import random
import sys
import wave
from collections.abc import Iterator
from pathlib import Path

import espeakng_loader
import numpy as np
from PIL import Image
from scipy.signal import resample_poly
from sklearn.datasets import load_digits

from mmtool.common.artefact_files import Kind, of_header
from mmtool.common.errors import MmtoolError
from mmtool.common.log import log, track
from mmtool.common.output import OutputPath

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SAMPLE_RATE_HZ = 8000

ACCENTS = ("en", "en-us", "en-us-nyc", "en-gb-x-rp", "en-gb-scotland")
VARIANTS = (  # only those without breath or echo, whose noise would differ from run to run
    "f1", "f4", "Andrea", "Annie", "belinda", "linda", "anika", "steph", "m1", "m2", "m3", "m4", "m6", "m7", "david", "rob",
)  # fmt: skip
TAKES_PER_VOICE = 6  # 5 accents x 16 variants x 6 takes = 480 recordings of each digit

SENTENCES_PER_DIGIT = 400
NAMING = (
    "{n}", "the number {n}", "the digit {n}", "it says {n}", "this is {n}", "I wrote {n}", "she wrote the digit {n}", "the answer is {n}",
    "he said {n}", "say {n} out loud", "press {n} on the phone", "dial {n}", "type {n} here", "page {n}", "chapter {n} is short",
    "turn to page {n}", "bus number {n} is late", "the score is {n}", "player number {n}", "room {n} is free", "gate {n} is open",
    "take bus number {n}", "we live at number {n}", "channel {n} please", "it is {n} degrees outside", "count up to {n}",
    "the last digit is {n}", "guess the number {n}", "my lucky number is {n}", "level {n} is hard", "platform {n}",
)  # fmt: skip
COUNTING = (
    "{n} {things}", "I see {n} {things}", "I count {n} {things}", "we have {n} {things}", "she bought {n} {things}", "he lost {n} {things}",
    "there were {n} {things} left", "{n} {things} on the table", "give me {n} {things} please", "only {n} {things} today",
)  # fmt: skip
THINGS = (
    "apple", "book", "bird", "cup", "dog", "egg", "hat", "key", "letter", "pen", "ship", "star", "tree", "cat", "chair", "coin", "lamp",
    "shoe", "ball", "boat", "car", "clock", "door", "flower", "horse", "house", "map", "nail", "pear", "plate", "ring", "road", "sock",
    "spoon", "stone", "table", "train", "window",
)  # fmt: skip

COLUMNS = ("key", "digit", "text")
FILES = (r"digits/\d/\d{4}\.png", r"speech/\d_[^/]+_\d+\.wav", r"sentences\.tsv")
KIND = Kind("quickstart data", ("sentences.tsv",), of_header("\t".join(COLUMNS)), FILES)  # what --force may replace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, metavar="OUT", help="the folder to write")
    parser.add_argument("--seed", type=int, default=0, help="decides takes and sentences (default 0)")
    parser.add_argument("--force", action="store_true", help="replace an OUT that this script wrote")
    arguments = parser.parse_args()
    try:
        with OutputPath(arguments.output, arguments.force, kinds=(KIND,)).directory() as folder:
            counts = write_quickstart(folder, arguments.seed)
    except MmtoolError as error:
        sys.exit(f"error: {error}")
    log(f"wrote {counts['digits']} pictures, {counts['speech']} recordings and {counts['sentences']} sentences to {arguments.output}")
    print(json.dumps(counts))


def write_quickstart(folder: Path, seed: int) -> dict[str, int]:
    """Write all three corpora into `folder`; give the number of items of each."""
    digits = write_digits(folder / "digits")
    speech = write_speech(folder / "speech", seed)
    return {"digits": digits, "speech": speech, "sentences": write_sentences(folder / "sentences.tsv", seed)}


def write_digits(folder: Path) -> int:
    """One PNG per handwritten digit; the 17 grey levels 0..16 become 0..255."""
    images, labels = load_digits(return_X_y=True)
    for number, (image, label) in enumerate(zip(images.reshape(-1, 8, 8), labels, strict=True)):
        path = folder / str(label) / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.round(image * (255 / 16)).astype(np.uint8)).save(path)
    return len(labels)


def write_speech(folder: Path, seed: int) -> int:
    """Every voice says every digit a few times, each time at another pitch, range and speed."""
    folder.mkdir()
    synthesiser = Synthesiser()
    voices = [(accent, variant) for accent in ACCENTS for variant in VARIANTS]
    for accent, variant in track(voices, "speaking"):
        synthesiser.use_voice(f"{accent}+{variant}")
        for digit, word in enumerate(WORDS):
            for take in range(TAKES_PER_VOICE):
                draw = random.Random(f"{seed} {accent} {variant} {digit} {take}")
                sound = synthesiser.say(word, rate=draw.randint(140, 220), pitch=draw.randint(25, 75), pitch_range=draw.randint(30, 70))
                write_wav(folder / f"{digit}_{accent}-{variant}_{take}.wav", finish(sound, synthesiser.sample_rate_hz))
    return len(voices) * len(WORDS) * TAKES_PER_VOICE


def write_sentences(path: Path, seed: int) -> int:
    """A table of different sentences, as many for each digit."""
    table = io.StringIO()
    writer = csv.writer(table, delimiter="\t", lineterminator="\n")
    writer.writerow(COLUMNS)
    for digit, word in enumerate(WORDS):
        texts = sorted(set(sentences(word)))
        for number, text in enumerate(random.Random(f"{seed} {digit}").sample(texts, SENTENCES_PER_DIGIT)):
            writer.writerow((f"sentence-{digit}-{number:03d}", digit, text))
    path.write_text(table.getvalue(), encoding="utf-8")
    return len(WORDS) * SENTENCES_PER_DIGIT


def sentences(word: str) -> Iterator[str]:
    """Every sentence that can be built around one number word."""
    for template in NAMING:
        yield template.format(n=word)
    for template in COUNTING:
        for thing in THINGS:
            yield template.format(n=word, things=thing if word == "one" else thing + "s")


class Synthesiser:
    """eSpeak NG through its C interface (`espeak-ng/speak_lib.h`), handing back samples instead of playing them."""

    SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: no sound device, `espeak_Synth` returns when all samples are delivered
    RATE, PITCH, RANGE = 1, 3, 4  # words per minute; 0..100 with 50 as the voice's own; 0 is monotone, 50 normal
    UTF8 = 1

    def __init__(self) -> None:
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self._chunks: list[np.ndarray] = []
        data = str(Path(espeakng_loader.get_data_path()).parent).encode()
        self.sample_rate_hz = self._library.espeak_Initialize(self.SYNCHRONOUS, 0, data, 0)
        if self.sample_rate_hz <= 0:
            raise RuntimeError("eSpeak NG did not start: reinstall the package espeakng-loader.")
        prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self._callback = prototype(self._collect)  # held here: the library keeps only a pointer
        self._library.espeak_SetSynthCallback(self._callback)

    def use_voice(self, name: str) -> None:
        """Choose a voice such as `en-us+f3` (accent + variant)."""
        if self._library.espeak_SetVoiceByName(name.encode()) != 0:
            raise RuntimeError(f"eSpeak NG has no voice {name}.")

    def say(self, text: str, *, rate: int, pitch: int, pitch_range: int) -> np.ndarray:
        """(T,) int16 samples at `sample_rate_hz`."""
        for parameter, value in ((self.RATE, rate), (self.PITCH, pitch), (self.RANGE, pitch_range)):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._chunks.clear()
        data = text.encode()
        self._library.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, 0, 0, self.UTF8, None, None)
        return np.concatenate(self._chunks)

    def _collect(self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, events: int | None) -> int:
        if count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0


def finish(sound: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Bring a recording to 8 kHz and cut the silence around the word (below 1 % of the peak), as spoken-digit corpora are cut."""
    divisor = math.gcd(SAMPLE_RATE_HZ, sample_rate_hz)
    low = resample_poly(sound.astype(np.float64), SAMPLE_RATE_HZ // divisor, sample_rate_hz // divisor)
    loud = np.flatnonzero(np.abs(low) > 0.01 * np.abs(low).max())
    return np.clip(np.round(low[loud[0] : loud[-1] + 1]), -32768, 32767).astype("<i2")


def write_wav(path: Path, sound: np.ndarray) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(sound.tobytes())


if __name__ == "__main__":
    main()
