"""Scores recordings: each line of standard input names a reference, a recording and `nb` or `wb`, parted by tabs.
For each of them a line is answered: of each piece of eight seconds its PESQ and where it was found, in milliseconds."""

import sys
from multiprocessing import Pool

import numpy as np
import soundfile
from pesq import pesq
from scipy.signal import correlate

SECONDS = 8


def scores(line):
    reference_file, recording_file, mode = line.rstrip("\n").split("\t")
    reference, rate = soundfile.read(reference_file)
    recording, _ = soundfile.read(recording_file)
    length = SECONDS * rate
    answers = []
    for start in range(0, len(reference) - length + 1, length):
        piece = reference[start : start + length]
        # Sound comes later than it was sent, by less than half a second.
        heard = recording[start : start + length + rate // 2]
        heard = np.pad(heard, (0, length + rate // 2 - len(heard)))
        lag = int(np.argmax(correlate(heard, piece, mode="valid", method="fft")))
        score = pesq(rate, piece, heard[lag : lag + length], mode)
        answers.append(f"{score:.4f} {lag * 1000 / rate:.3f}")
    return " ".join(answers)


if __name__ == "__main__":
    with Pool() as pool:
        for answer in pool.imap(scores, sys.stdin.readlines(), chunksize=4):
            print(answer, flush=True)
