# SPDX-License-Identifier: Apache-2.0
"""Speech for the phones (from Debian's asterisk-core-sounds-en-wav) and how well a recording matches it."""

import glob
import random
import wave
from pathlib import Path

SOUNDS = "/usr/share/asterisk/sounds/en_US_f_Allison"
RATE = 8000


class SpeechError(Exception):
    pass


def _samples(path):
    with wave.open(str(path)) as w:
        if (w.getnchannels(), w.getsampwidth(), w.getframerate()) != (1, 2, RATE):
            return b""
        return w.readframes(w.getnframes())


def make(path, seconds, seed):
    """A WAV of that many seconds: spoken sentences in an order that the seed gives, each voice its own."""
    files = sorted(glob.glob(f"{SOUNDS}/*.wav"))
    if not files:
        raise SpeechError(f"no speech in {SOUNDS}: install asterisk-core-sounds-en-wav (tools/dev/install-deps)")
    random.Random(seed).shuffle(files)
    data, want = bytearray(), int(seconds * RATE) * 2
    while len(data) < want:
        before = len(data)
        for name in files:
            data += _samples(name)
            if len(data) >= want:
                break
        if len(data) == before:
            raise SpeechError(f"the files in {SOUNDS} are not 16 bit, mono, {RATE} Hz")
    with wave.open(str(path), "wb") as w:
        w.setnchannels(1)
        w.setsampwidth(2)
        w.setframerate(RATE)
        w.writeframes(bytes(data[:want]))
    return Path(path)


def correlation(recording, source):
    """Peak of the normalised cross-correlation of the whole recording with the source, and its lag in seconds."""
    import numpy as np
    heard, said = (np.frombuffer(_samples(p), dtype="<i2").astype(np.float64) for p in (recording, source))
    if len(heard) < RATE or not heard.any():
        return 0.0, 0.0
    size = 1 << (len(heard) + len(said) - 1).bit_length()
    cross = np.fft.irfft(np.fft.rfft(said, size) * np.conj(np.fft.rfft(heard, size)), size)
    # Lags from -(len(heard)-1) (circularly at the end) to len(said)-1; energy of what overlaps, from running sums.
    lags = np.concatenate([np.arange(len(said)), np.arange(-(len(heard) - 1), 0)])
    values = np.concatenate([cross[:len(said)], cross[size - (len(heard) - 1):]])
    said_sum = np.concatenate([[0.0], np.cumsum(said ** 2)])
    heard_sum = np.concatenate([[0.0], np.cumsum(heard ** 2)])
    first, last = np.clip(lags, 0, len(said)), np.clip(lags + len(heard), 0, len(said))
    energy = (said_sum[last] - said_sum[first]) * (heard_sum[last - lags] - heard_sum[first - lags])
    # Short overlaps correlate by chance: at least half of the recording must lie inside the source.
    ok = (last - first >= len(heard) // 2) & (energy > 0)
    score = np.zeros(len(values))
    score[ok] = values[ok] / np.sqrt(energy[ok])
    best = int(np.argmax(score))
    return float(score[best]), float(lags[best]) / RATE


def duration(path):
    return len(_samples(path)) / 2 / RATE
